//! Requests, signed and verified: Ed25519 over `"siglatch control 1" || server_id[16] || hello[32] || canonical JSON` (RFC 8785)
//! of what is asked.

use std::time::Duration;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::Value;

use super::nonces::Nonces;
use super::{BadLine, Envelope, Hello, Hex, Refused, Request, Signed};
use crate::clock::Now;
use crate::config::resolved::{Admin, Control, Role};

/// How far a request's time may be from the daemon's clock.
pub const FRESHNESS: Duration = Duration::from_secs(300);

/// A request that an administrator has signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose signature it has.
    pub admin: String,
    /// What he asks.
    pub request: Request,
    /// Whether his role is enough for it.
    pub may: May,
}

/// Whether a role is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// It is.
    Yes,
    /// It takes this one.
    No {
        /// The least one.
        wanted: Role,
        /// His.
        his: Role,
    },
}

/// Signs one request for one connection.
///
/// # Errors
///
/// [`BadLine`]: it has no form in JSON.
pub fn sign(signed: &Signed, hello: &Hello, key: &SigningKey) -> Result<Envelope, BadLine> {
    let signed = serde_json::to_value(signed)?;
    let signature = key.sign(&message(&signed, hello)?).to_bytes();
    Ok(Envelope { signed, signature: Hex(signature) })
}

/// Checks one line: form, signature, time, whether it is new, in this order. Only what is signed is remembered. Whether his role is
/// enough is the answer's.
///
/// # Errors
///
/// [`Refused`]: nothing may be done.
pub fn verify(
    line: &[u8],
    hello: &Hello,
    control: &Control,
    nonces: &mut Nonces,
    now: Now,
) -> Result<Asked, Refused> {
    let malformed = |what: &dyn std::fmt::Display| Refused::Malformed(what.to_string());
    let envelope: Envelope = serde_json::from_slice(line).map_err(|bad| malformed(&bad))?;
    let name = envelope.signed.get("admin").and_then(Value::as_str).unwrap_or_default();
    let admin = *control.admins.get(name).ok_or(Refused::NotSigned)?;
    check(&envelope, hello, &admin)?;
    let signed: Signed = serde_json::from_value(envelope.signed).map_err(|bad| malformed(&bad))?;
    let at: u64 = signed.at.parse().map_err(|bad| malformed(&bad))?;
    let apart = now.unix().abs_diff(at);
    if apart > FRESHNESS.as_secs() {
        return Err(Refused::Stale(apart));
    }
    nonces.take(now, &signed.admin, signed.nonce)?;
    let wanted = signed.request.role();
    let may = if admin.role < wanted { May::No { wanted, his: admin.role } } else { May::Yes };
    Ok(Asked { admin: signed.admin, request: signed.request, may })
}

fn check(envelope: &Envelope, hello: &Hello, admin: &Admin) -> Result<(), Refused> {
    let key = VerifyingKey::from_bytes(&admin.public_key).map_err(|_| Refused::NotSigned)?;
    let message = message(&envelope.signed, hello).map_err(|bad| Refused::Malformed(bad.to_string()))?;
    let signature = Signature::from_bytes(&envelope.signature.0);
    key.verify_strict(&message, &signature).map_err(|_| Refused::NotSigned)
}

fn message(signed: &Value, hello: &Hello) -> Result<Vec<u8>, BadLine> {
    let mut message = DOMAIN.to_vec();
    message.extend(hello.server_id.0);
    message.extend(hello.hello.0);
    message.extend(serde_json_canonicalizer::to_vec(signed)?);
    Ok(message)
}

const DOMAIN: &[u8] = b"siglatch control 1";

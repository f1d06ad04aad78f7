//! `siglatch key update`: the server's new public key, asked of the server itself under the one that the profile has.
//!
//! # Security considerations
//!
//! What is told comes in receipts, which are sealed under a key that is derived from the user's own and from the knock that asks: only
//! who has the user's key can make one, and that is the server. Who watches the network, or has the server's *old* private key and
//! nothing else, cannot tell a profile another key.
//!
//! A new key comes into the profile only after the server has answered a knock under it. Until then, and if anything fails, the
//! profile is as it was: it is never left with a key under which it cannot knock.

use std::time::Duration;

use super::answer::{self, Until as Wait};
use super::args;
use super::knock;
use super::profile::Profiles;
use super::target::Target;
use crate::config::files::Existing;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::{Invite, Name, Until};
use crate::wire::options::Options;
use crate::wire::receipt::Status;
use crate::wire::server_key::{BadPiece, KeyHash, Piece, Pieces};
use crate::wire::stamp::Postage;
use crate::wire::{ActionId, Binding, PublicKey};

/// Runs the command: for the profile that is named, or for each there is.
pub(super) fn update(args: &args::KeyUpdate) -> Result<(), Failure> {
    let profiles = Profiles::of_environment()?;
    let names = match &args.profile {
        Some(profile) => vec![profiles.find(profile)?],
        None => profiles.names()?,
    };
    let mut failed = Vec::new();
    for name in &names {
        match update_one(&profiles, name, args) {
            Ok(said) => exit::say(&format!("{said}\n"))?,
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => failed.push(Failure { what: format!("{name}: {}", failure.what), ..failure }),
        }
    }
    super::last_of(failed)
}

fn update_one(profiles: &Profiles, name: &Name, args: &args::KeyUpdate) -> Result<String, Failure> {
    // Who exchanges the profile's other key meanwhile must not have it overwritten.
    let _lock = profiles.lock()?;
    let invite = profiles.load(name)?;
    if invite.enrol.as_ref().is_some_and(|enrol| enrol.until == Until::Nothing) {
        let what = format!("the key of {name} is its invite's: it is good for nothing but another");
        return Err(Failure::new(Exit::Config, what).hint(format!("siglatch key rotate {name}, then this")));
    }
    let action = args.action.or(invite.key_action).ok_or_else(|| {
        let what = format!("the profile {name} does not say which action tells the server's key");
        Failure::new(Exit::Config, what)
            .hint("ask the administrator for its number, and give that with --action; or for a new invite")
    })?;
    let key = fetch(&invite, action, args.wait)?;
    let is_new = key != invite.server_key;
    let updated = Invite { server_key: key, key_action: Some(action), ..invite.clone() };
    if is_new {
        prove(&updated, action, args.wait).map_err(|failure| {
            let what = format!("the server told a new key, and does not answer under it: {}", failure.what);
            Failure::new(failure.exit, what).hint(format!("{name} has the old one still; try again later"))
        })?;
    }
    // The number that was given is worth keeping, too.
    if is_new || invite.key_action != updated.key_action {
        profiles.install(&updated, Existing::Replace)?;
    }
    let hash = KeyHash::of(&updated.server_key);
    Ok(if is_new {
        format!("{name} has the server's new key, {hash}")
    } else {
        format!("{name} has the server's key already, {hash}")
    })
}

/// The server's key, as it tells it.
fn fetch(invite: &Invite, action: ActionId, patience: Duration) -> Result<PublicKey, Failure> {
    let mut pieces = Pieces::default();
    while let Some(argument) = pieces.wanted() {
        let piece = ask(invite, action, argument, patience)?;
        pieces.take(&piece).map_err(told)?;
    }
    pieces.key().map_err(told)
}

/// Knocks under the profile's key for it, and hears that it is that.
fn prove(invite: &Invite, action: ActionId, patience: Duration) -> Result<(), Failure> {
    let piece = ask(invite, action, [0; 2], patience)?;
    if piece.hash() == KeyHash::of(&invite.server_key) { Ok(()) } else { Err(told(BadPiece::TwoKeys)) }
}

/// Asks for one piece. What is lost on the way, knock or answer, is sent again while there is time.
fn ask(invite: &Invite, action: ActionId, argument: [u8; 2], patience: Duration) -> Result<Piece, Failure> {
    let target = Target::of_invite(invite.clone(), &action.to_string())?;
    // Only a stamped knock is answered.
    let what = "query of the server's key".to_owned();
    let target = Target { postage: Postage::Stamped, action, what, ..target };
    let options = Options { argument: Some(argument.to_vec()), ..Options::default() };
    let payload = target.with(&options, b"")?;
    let how = args::Knock { quiet: true, ..args::Knock::default() };
    let binding = target.server_id.map_or(Binding::None, Binding::Server);
    let sent = knock::send(&how, &target, &payload, binding, knock::destinations(&how, &target)?)?;
    let heard = answer::wait(&sent, &target.hmac_key, patience, Wait::LastWords);
    for (sent, heard) in sent.iter().zip(heard) {
        match &heard.receipt {
            Some(receipt) if receipt.status == Status::Done => {
                return Piece::decode(&receipt.text).map_err(told);
            }
            Some(_) | None => drop(heard.judged(&target.what, sent, patience)?),
        }
    }
    Err(Failure::new(Exit::NoAnswer, "the server has not told its key"))
}

fn told(bad: BadPiece) -> Failure {
    let hint = match bad {
        BadPiece::TwoKeys => "try again",
        BadPiece::Malformed | BadPiece::Hash | BadPiece::Key(_) => {
            "is --action the number of the action with builtin = \"server_key\"? Ask the administrator"
        }
    };
    Failure::new(Exit::TryAgain, bad.to_string()).hint(hint)
}

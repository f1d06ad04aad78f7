//! What `siglatchctl` asks of a running siglatchd, over a socket in `runtime_dir`: one line of JSON each way, then the
//! connection is closed.
//!
//! In: lines. Out: requests and replies. Never: sockets; the daemon's end is in [`crate::keeper`], the other in
//! [`crate::ctl`].

pub mod status;

use serde::{Deserialize, Serialize};

use crate::work::hooks::Which;
use crate::work::leases::Whom;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What the daemon does and has done.
    Status,
    /// End leases now.
    Revoke(Whom),
    /// Send webhooks now.
    RetryWebhooks(Which),
    /// Throw webhooks away.
    DropWebhooks(Which),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What the daemon does and has done.
    Status(Box<status::Status>),
    /// So many leases were ended.
    Revoked(usize),
    /// So many webhooks were meant.
    Webhooks(usize),
    /// Nothing was done, and why.
    Failed(String),
}

/// The socket's name in `runtime_dir`.
pub const SOCKET: &str = "control.sock";

/// Bytes of the longest line, its end included.
pub const LINE_MAX: usize = 4096;

/// What is no request or reply.
#[derive(Debug, thiserror::Error)]
#[error("this is not understood: {0}")]
pub struct BadLine(#[from] serde_json::Error);

/// One line.
///
/// # Errors
///
/// [`BadLine`]: it has no form in JSON.
pub fn write<T: Serialize>(message: &T) -> Result<Vec<u8>, BadLine> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line, with its end or without.
///
/// # Errors
///
/// [`BadLine`].
pub fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, BadLine> {
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::KnockId;

    #[test]
    fn what_is_asked_and_answered_is_what_is_documented() {
        let requests = [
            (Whom::Lease(KnockId([0xab; 8])), r#"{"revoke":{"lease":"abababababababab"}}"#),
            (Whom::User("alice".to_owned()), r#"{"revoke":{"user":"alice"}}"#),
            (Whom::All, r#"{"revoke":"all"}"#),
        ];
        for (whom, line) in requests {
            let request = Request::Revoke(whom);
            assert_eq!(write(&request).unwrap(), format!("{line}\n").as_bytes());
            assert_eq!(read::<Request>(line.as_bytes()).unwrap(), request);
        }
        let hooks = [
            (Request::RetryWebhooks(Which::Failed), r#"{"retry-webhooks":"failed"}"#),
            (
                Request::DropWebhooks(Which::Hook(KnockId([0xab; 8]))),
                r#"{"drop-webhooks":{"hook":"abababababababab"}}"#,
            ),
        ];
        for (request, line) in hooks {
            assert_eq!(write(&request).unwrap(), format!("{line}\n").as_bytes());
            assert_eq!(read::<Request>(line.as_bytes()).unwrap(), request);
        }
        assert_eq!(write(&Reply::Webhooks(2)).unwrap(), b"{\"webhooks\":2}\n");
        assert_eq!(write(&Reply::Revoked(2)).unwrap(), b"{\"revoked\":2}\n");
        for line in
            ["", "{}", r#"{"revoke":"some"}"#, r#"{"revoke":{"lease":"ab"}}"#, r#"{"stop":"all"}"#, "[[[["]
        {
            assert!(read::<Request>(line.as_bytes()).is_err(), "{line}");
        }
    }
}

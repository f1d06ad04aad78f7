//! What the engine says, for people.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::exit::Exit;
use crate::store::StoreError;
use crate::store::folder::{FAILING, FULL, READ_ONLY};

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Open,
    Claim,
    Reserve,
    Forget,
    Keep,
    KeepHooks,
    KeepKey,
    KeepMoved,
    Append,
    GiveBack,
    Read,
    #[cfg(feature = "backup")]
    Copy,
    Close,
}

/// An error of the engine's.
pub(super) fn sqlite(file: &Path, doing: Doing, error: &rusqlite::Error) -> StoreError {
    let denied = match doing {
        Doing::Read => "run this as root",
        #[cfg(feature = "backup")]
        Doing::Copy => "run this as siglatchd's user",
        Doing::Open
        | Doing::Claim
        | Doing::Reserve
        | Doing::Forget
        | Doing::Keep
        | Doing::KeepHooks
        | Doing::KeepKey
        | Doing::KeepMoved
        | Doing::Append
        | Doing::GiveBack
        | Doing::Close => READ_ONLY,
    };
    let doing = match doing {
        Doing::Open => "open the store",
        Doing::Claim => "record claims",
        Doing::Reserve => "write to the store",
        Doing::Forget => "forget claims",
        Doing::Keep => "record doors",
        Doing::KeepHooks => "record webhooks",
        Doing::KeepKey => "keep keys",
        Doing::KeepMoved => "record who has moved to the new key",
        Doing::Append => "record what was decided",
        Doing::GiveBack => "give back a use",
        Doing::Read => "read the store",
        #[cfg(feature = "backup")]
        Doing::Copy => "copy the store",
        Doing::Close => "close the store",
    };
    let (hint, exit) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (FULL.to_owned(), Exit::TryAgain),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (denied.to_owned(), Exit::Permission)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("end the other program that has it open".to_owned(), Exit::TryAgain)
        }
        Some(ErrorCode::SystemIoFailure) => (format!("{FULL}, or {FAILING}"), Exit::TryAgain),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (start_over(file), Exit::Config),
        // A table that is missing or holds what it cannot: as good as corrupt.
        Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) | None => {
            (start_over(file), Exit::Config)
        }
        Some(_) => ("restart siglatchd".to_owned(), Exit::TryAgain),
    };
    StoreError { what: format!("{}: cannot {doing}: {error}", file.display()), hint, exit }
}

/// A file whose content makes no sense.
pub(super) fn corrupt(file: &Path, what: &str) -> StoreError {
    StoreError {
        what: format!("{}: is damaged: {what}", file.display()),
        hint: start_over(file),
        exit: Exit::Config,
    }
}

/// The way out that is always safe, and what it costs.
pub(super) fn start_over(file: &Path) -> String {
    format!(
        "stop siglatchd and move it away: mv {0} {0}.old; a new one refuses every knock made before it, voids invites for one use, and has forgotten which keys were exchanged",
        file.display()
    )
}

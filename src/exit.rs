//! Exit codes of the three programs, after sysexits(3).

use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Ok,
    /// The command line is wrong (EX_USAGE): 64.
    Usage,
    /// Something inside went wrong (EX_SOFTWARE): 70.
    Internal,
    /// May work when tried again (EX_TEMPFAIL): 75.
    TryAgain,
    /// The system does not permit it (EX_NOPERM): 77.
    Permission,
    /// A configuration, key, profile or state file is wrong (EX_CONFIG): 78.
    Config,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Usage => 64,
            Exit::Internal => 70,
            Exit::TryAgain => 75,
            Exit::Permission => 77,
            Exit::Config => 78,
        }
    }

    /// The exit that fits a failed file or socket operation.
    pub fn of_io(error: &std::io::Error) -> Exit {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            Exit::Permission
        } else {
            Exit::TryAgain
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

//! How the three programs end, and what they say: exit codes after sysexits(3), failures, standard output.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Ok,
    /// A knock's action ran, and failed: 1.
    ActionFailed,
    /// An import is written, and a person has to decide something: 1.
    Undecided,
    /// A knock's action runs still: 2.
    StillRunning,
    /// A knock was not answered: 3.
    NoAnswer,
    /// A knock was refused until later, by quota, cooldown or hours: 4.
    NotNow,
    /// The command line is wrong (EX_USAGE): 64.
    Usage,
    /// An audit trail is whole, and not proven (EX_DATAERR): 65.
    NotProven,
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
            Exit::ActionFailed | Exit::Undecided => 1,
            Exit::StillRunning => 2,
            Exit::NoAnswer => 3,
            Exit::NotNow => 4,
            Exit::Usage => 64,
            Exit::NotProven => 65,
            Exit::Internal => 70,
            Exit::TryAgain => 75,
            Exit::Permission => 77,
            Exit::Config => 78,
        }
    }

    /// The exit that fits a failed file or socket operation.
    pub fn of_io(error: &io::Error) -> Exit {
        if error.kind() == io::ErrorKind::PermissionDenied { Exit::Permission } else { Exit::TryAgain }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command of `siglatch` or `siglatchctl` failed, in the words that its user reads.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What and where.
    pub what: String,
    /// How to mend it, where that is known.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that says all in one line.
    pub fn new(exit: Exit, what: impl Into<String>) -> Failure {
        Failure { exit, what: what.into(), hint: None }
    }

    /// With a line that says how to mend it.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// Writes it to standard error.
    pub fn show(&self) {
        note(&format!("error: {}", self.what));
        if let Some(hint) = &self.hint {
            note(&format!(" hint: {hint}"));
        }
    }
}

impl From<crate::config::files::BadFile> for Failure {
    fn from(bad: crate::config::files::BadFile) -> Failure {
        let exit = match &bad.io {
            Some(error) if error.kind() == io::ErrorKind::PermissionDenied => Exit::Permission,
            Some(error) if error.kind() == io::ErrorKind::StorageFull => Exit::TryAgain,
            Some(_) | None => Exit::Config,
        };
        Failure { exit, what: bad.to_string(), hint: bad.hint }
    }
}

/// Reads a command line; help and version go to standard output and end with 0, mistakes end with 64.
///
/// # Errors
///
/// The exit code of a program that has nothing left to do.
pub fn parse<T: clap::Parser>(args: impl Iterator<Item = OsString>) -> Result<T, ExitCode> {
    T::try_parse_from(args).map_err(|error| usage(&error))
}

/// Shows clap's message, or the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    drop(error.print());
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    exit.into()
}

/// Ends a command: a failure goes to standard error.
pub fn end(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return Exit::Ok.into();
    };
    failure.show();
    failure.exit.into()
}

/// Writes lines to standard output. A reader that has left is no failure.
///
/// # Errors
///
/// [`Failure`] when it cannot be written, to a full disk for one.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::of_io(&error), format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes one line to standard error, if it is still there.
pub fn note(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Rows under each other, columns as wide as their widest cell.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let text: String = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect();
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

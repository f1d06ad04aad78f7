//! What becomes of a job.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use super::job::Whose;
use super::output::{Piece, Stream};
use crate::config::files::BadFile;
use crate::judge::DropReason;

/// Something that happened to a job. For each job: perhaps `Queued`, then either `Refused` or `Started`; after
/// `Started` any of the others, and `Finished` as the last.
#[derive(Debug)]
pub struct JobEvent {
    /// Whose job.
    pub whose: Whose,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Debug)]
pub enum Happened {
    /// It waits its turn.
    Queued,
    /// It does not run. To be counted under [`StartError::reason`].
    Refused(StartError),
    /// It runs. To be counted as ran.
    Started,
    /// It printed a line; escaped, at most 1 KiB and the mark of a cut line.
    Line(Stream, String),
    /// Its `max_output` is used up: what else it prints is thrown away.
    OutputCut,
    /// Its `timeout` is over; it was told to end.
    TimedOut,
    /// It could not be signalled: most likely the daemon may not signal the user it runs as (CAP_KILL).
    NotSignalled(Errno),
    /// It ended.
    Finished {
        /// How.
        how: How,
        /// From its start.
        took: Duration,
    },
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with this code, 0 to 255.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Unknown: the kernel gave its exit to somebody else.
    Lost,
}

/// Why a job does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `max_running` of its action or `max_jobs` of all run, and its queue, if it has one, is full.
    #[error("as many scripts as `max_running` or `max_jobs` allow run already")]
    Busy,
    /// The daemon is stopping.
    #[error("siglatchd is stopping")]
    Stopping,
    /// It waited its turn, and a reload meanwhile took the permission away.
    #[error("a reload took it away while the knock waited: {}", .0.meaning())]
    Withdrawn(DropReason),
    /// The file changed since it was loaded, and is no longer fit.
    #[error("{0}{hint}", hint = hint(.0))]
    File(#[from] BadFile),
    /// The kernel did not start it.
    #[error("{}: cannot start: {error}{}", program.display(), spawn_hint(error))]
    Spawn {
        /// The file.
        program: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
}

impl StartError {
    /// What it is counted under.
    pub fn reason(&self) -> DropReason {
        match self {
            StartError::Busy => DropReason::Busy,
            StartError::Stopping => DropReason::Stopping,
            StartError::Withdrawn(reason) => *reason,
            StartError::File(_) | StartError::Spawn { .. } => DropReason::StartFailed,
        }
    }
}

impl From<Piece> for Happened {
    fn from(piece: Piece) -> Happened {
        match piece {
            Piece::Line(stream, text) => Happened::Line(stream, text),
            Piece::Cut => Happened::OutputCut,
        }
    }
}

fn hint(file: &BadFile) -> String {
    file.hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default()
}

fn spawn_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // The file itself was there a moment ago.
        Some(libc::ENOENT) => {
            ": the interpreter that its first line names is not there (or that line ends as on Windows)"
        }
        Some(libc::ETXTBSY) => ": somebody has it open for writing",
        Some(libc::EPERM) => ": only root can run it as the user that `run_as` names",
        Some(libc::EACCES) => ": the user it runs as may not execute it",
        Some(libc::ENOSYS) => ": Linux 5.9 or later is needed",
        _ => "",
    }
}

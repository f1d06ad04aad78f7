//! The listener's process: its start, and what its end means.

use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use super::Loss;
use crate::channel::Channel;
use crate::exit::{self, Exit, Failure};
use crate::keeper::cannot;
use crate::listener::{self, ListenerError};

/// Behind the program's name: the process is a listener.
pub(in crate::keeper) const FLAG: &str = "--listener";

/// What a process does that was started by [`start`].
pub(in crate::keeper) fn main() -> ExitCode {
    let Ok(channel) = Channel::inherited() else {
        let failure = Failure::new(Exit::Usage, "siglatchd starts its listener itself");
        return exit::end(Err(failure.hint("leave --listener out")));
    };
    match listener::main(channel) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => error.code().into(),
    }
}

/// Starts one from the executable that runs here, even if another stands in its place by now. Its end of the channel is its
/// standard input; it inherits nothing else.
pub(super) fn start(number: u64) -> Result<(Child, Channel), Failure> {
    let (ours, theirs) = Channel::pair().map_err(|error| cannot("make the channel", &error))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the other place: no script, but this very program"
    )]
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("siglatchd")
        .arg(FLAG)
        .args(orders(number))
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => Ok((child, ours)),
        Err(error) => {
            let hint =
                "it is started from /proc/self/exe: /proc must be mounted, and threads and memory be left";
            Err(cannot("start the listener", &error).hint(hint))
        }
    }
}

/// Ends it, whatever it does. It is not reaped yet, so its number is nobody else's.
pub(super) fn kill(child: &mut Child) {
    // It fails for one that was reaped, and nothing else.
    child.kill().ok();
}

/// What became of one, for people.
pub(super) struct Fate {
    pub(super) why: String,
    pub(super) hint: &'static str,
    /// How a daemon ends whose first one it was.
    pub(super) exit: Exit,
}

/// From why it was given up, and how it ended.
pub(super) fn fate(loss: Loss, status: Option<ExitStatus>) -> Fate {
    let (why, hint, exit) = match loss {
        Loss::Malformed => ("it said what no listener says".to_owned(), TAKEN_OVER, Exit::Internal),
        Loss::Flood => {
            ("it said more than a listener can have to say".to_owned(), TAKEN_OVER, Exit::Internal)
        }
        Loss::Silent => ("it said nothing for too long".to_owned(), SILENT, Exit::TryAgain),
        Loss::Ended => {
            let told = status.and_then(|status| status.code()).and_then(ListenerError::of_code);
            let signal = status.and_then(|status| status.signal());
            match (told, signal) {
                (Some(error), _) => (error.to_string(), error.hint(), exit_of(error)),
                (None, Some(libc::SIGSYS)) => {
                    ("it made a system call that its sandbox forbids".to_owned(), FORBIDDEN, Exit::Internal)
                }
                (None, Some(libc::SIGKILL)) => {
                    ("somebody killed it (SIGKILL)".to_owned(), KILLED, Exit::TryAgain)
                }
                (None, Some(signal)) => {
                    (format!("it died of signal {signal}"), "report this", Exit::Internal)
                }
                (None, None) => {
                    let code = status.and_then(|status| status.code());
                    let code = code.map_or("an unknown code".to_owned(), |code| format!("code {code}"));
                    (format!("it ended with {code}"), "report this", Exit::Internal)
                }
            }
        }
    };
    Fate { why, hint, exit }
}

fn exit_of(error: ListenerError) -> Exit {
    match error {
        ListenerError::Setup => Exit::Internal,
        ListenerError::Key => Exit::Config,
        ListenerError::Io => Exit::TryAgain,
        ListenerError::User
        | ListenerError::Capabilities
        | ListenerError::NoNewPrivs
        | ListenerError::Landlock
        | ListenerError::Limits
        | ListenerError::Seccomp => Exit::Permission,
    }
}

#[cfg(not(feature = "crash-points"))]
fn orders(_number: u64) -> [String; 0] {
    []
}

#[cfg(feature = "crash-points")]
fn orders(number: u64) -> Vec<String> {
    crate::crash::orders(number)
}

const TAKEN_OVER: &str = "somebody may have taken it over: keep the log, look for updates, report this";
const FORBIDDEN: &str =
    "somebody may have taken it over, or a library of this machine does what is not foreseen: report this";
const SILENT: &str =
    "a machine far too busy, a listener that was stopped, or a fault: report it if it comes again";
const KILLED: &str = "by hand, or by the kernel for want of memory: see its log";

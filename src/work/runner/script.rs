//! One process: its start, its two pipes, its signals, its end.

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use mio::unix::pipe;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{self, Id, WaitPidFlag, waitid};
use nix::unistd::{Gid, Pid, Uid};
use rustix::process::{WaitOptions, WaitStatus, waitpid};

use crate::clock::Now;
use crate::config::files;
use crate::sys::spawn::{Program, spawn};
use crate::work::event::{Happened, How, JobEvent, StartError};
use crate::work::job::{Job, Whose};
use crate::work::jobs::Order;
use crate::work::output::{Output, State, Stream};

/// A started script that was not reaped.
#[derive(Debug)]
pub(super) struct Script {
    /// Whose it is.
    pub(super) whose: Whose,
    /// When (monotonic).
    pub(super) started: Duration,
    pid: Pid,
    pipes: [Pipe; 2],
    output: Output,
}

/// Whether a script is gone.
#[derive(Debug)]
pub(super) enum Reaped {
    /// Gone, and no zombie of it is left.
    Gone(How),
    /// Not yet.
    Alive,
}

/// Whether more of a dead script's group may live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It ended in time: its background children are its own business.
    Spare,
    /// It overran its timeout: all of it ends.
    End,
}

/// Bytes that are read from a pipe at once.
pub(super) const READ_MAX: usize = 4 * 1024;

/// Reads of a pipe whose script is gone: 1 MiB in all, as much as the largest pipe of an ordinary user holds.
const LAST_READS: usize = 256;

impl Script {
    /// Checks the file once more and starts it.
    pub(super) fn start(
        registry: &Registry,
        tokens: [Token; 2],
        now: Now,
        job: &Job,
    ) -> Result<Script, StartError> {
        let program = job.program();
        match job.whose() {
            Whose::Knock(_) | Whose::Undo(_) | Whose::Renewal(_) => files::check_program(program)?,
            // The very file that runs here, whatever its name leads to by now.
            Whose::Hook(_) => {}
        }
        Script::spawn(registry, tokens, now, job)
            .map_err(|error| StartError::Spawn { program: program.to_owned(), error })
    }

    fn spawn(registry: &Registry, [out, err]: [Token; 2], now: Now, job: &Job) -> io::Result<Script> {
        // All that can fail comes first: once there is a process, it is in the books.
        let (stdout, stdout_end) = Pipe::open(registry, out, Stream::Stdout)?;
        let (stderr, stderr_end) = Pipe::open(registry, err, Stream::Stderr)?;
        let stdin = stdin(job)?;
        let file = CString::new(job.program().as_os_str().as_bytes())?;
        let args = job.args().iter().map(|arg| CString::new(arg.as_str()));
        let args =
            std::iter::once(Ok(file.clone())).chain(args).collect::<Result<Vec<CString>, NulError>>()?;
        let env = job.env().iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        let env = env.collect::<Result<Vec<CString>, NulError>>()?;
        let pid = spawn(&Program {
            file: &file,
            args: &args,
            env: &env,
            stdio: [stdin.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()],
            run_as: job.exec().run_as.map(|to| (Uid::from_raw(to.uid), Gid::from_raw(to.gid))),
        })?;
        Ok(Script {
            whose: job.whose().clone(),
            started: now.mono,
            pid,
            pipes: [stdout, stderr],
            output: Output::new(job.exec().max_output),
        })
    }

    /// Standard output (0) or standard error (1) has something to read.
    pub(super) fn ready(&mut self, pipe: usize) {
        if let Some(pipe) = self.pipes.get_mut(pipe) {
            pipe.more = More::Perhaps;
        }
    }

    /// Whether a read may find something.
    pub(super) fn more(&self) -> bool {
        self.pipes.iter().any(|pipe| pipe.more == More::Perhaps)
    }

    /// Reads once from each pipe that may have something.
    pub(super) fn read(&mut self, buffer: &mut [u8; READ_MAX], events: &mut Vec<JobEvent>) {
        for pipe in &mut self.pipes {
            let bytes = pipe.read(buffer);
            self.output.push(pipe.stream, bytes, &mut |piece| {
                events.push(event(&self.whose, piece.into()));
            });
        }
    }

    /// The script is gone: reads what it left. Whoever else holds the pipes is not waited for.
    pub(super) fn read_rest(&mut self, buffer: &mut [u8; READ_MAX], events: &mut Vec<JobEvent>) {
        self.pipes.iter_mut().for_each(|pipe| pipe.more = More::Perhaps);
        for _ in 0..LAST_READS {
            if self.more() && self.output.state() == State::Taking {
                self.read(buffer, events);
            }
        }
        self.output.finish(&mut |piece| events.push(event(&self.whose, piece.into())));
    }

    /// Signals the process group; the script by itself too, if it left its group.
    pub(super) fn signal(&mut self, order: Order) -> Result<(), Errno> {
        let pid = self.pid;
        match order {
            Order::Terminate => killpg(pid, Signal::SIGTERM).or_else(|_| kill(pid, Signal::SIGTERM)),
            Order::Kill => {
                killpg(pid, Signal::SIGKILL).ok();
                kill(pid, Signal::SIGKILL)
            }
        }
    }

    /// Reaps it if it has exited.
    pub(super) fn reap(&mut self, rest: Rest) -> Reaped {
        match rest {
            Rest::Spare => {}
            Rest::End => {
                // Looked at first, reaped second: until then the process id, and the group's, are taken.
                let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
                match waitid(Id::Pid(self.pid), peek) {
                    Ok(wait::WaitStatus::StillAlive) => return Reaped::Alive,
                    // Somebody else reaped it: nothing is known about the id any more.
                    Err(Errno::ECHILD) => return Reaped::Gone(How::Lost),
                    // A death by a real-time signal is an Err here.
                    Ok(_) | Err(_) => {}
                }
                // Its children, if it left any.
                killpg(self.pid, Signal::SIGKILL).ok();
            }
        }
        // nix would call a death by a real-time signal an error, and its status would be lost.
        match waitpid(rustix::process::Pid::from_raw(self.pid.as_raw()), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Reaped::Gone(how(status)),
            Ok(None) => Reaped::Alive,
            Err(_) => Reaped::Gone(How::Lost),
        }
    }

    /// The process's id, and its group's.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

/// The reading end of a script's output.
#[derive(Debug)]
struct Pipe {
    stream: Stream,
    end: pipe::Receiver,
    more: More,
}

/// Whether a pipe has something to read. Readiness is edge-triggered: it is not told twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Perhaps,
    No,
}

impl Pipe {
    /// A pipe, registered; the script's end blocks, ours does not.
    fn open(registry: &Registry, token: Token, stream: Stream) -> io::Result<(Pipe, OwnedFd)> {
        let (sender, mut end) = pipe::new()?;
        sender.set_nonblocking(false)?;
        registry.register(&mut end, token, Interest::READABLE)?;
        let more = More::No;
        Ok((Pipe { stream, end, more }, sender.into()))
    }

    fn read<'a>(&mut self, buffer: &'a mut [u8; READ_MAX]) -> &'a [u8] {
        if self.more == More::No {
            return &[];
        }
        match self.end.read(buffer) {
            Ok(len) if len > 0 => buffer.get(..len).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => &[],
            // The end, nothing for now, or no pipe any more.
            Ok(_) | Err(_) => {
                self.more = More::No;
                &[]
            }
        }
    }
}

/// What the script reads: a pipe, or for more a file in memory, that holds all of it already, so that nobody writes to a script
/// that does not read.
fn stdin(job: &Job) -> io::Result<OwnedFd> {
    let Some(payload) = job.stdin() else {
        return Ok(File::open("/dev/null")?.into());
    };
    if payload.len() > PIPE_MIN {
        let mut file = File::from(memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(payload)?;
        file.rewind()?;
        return Ok(file.into());
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(payload)?;
    Ok(reader.into())
}

/// Bytes that every pipe holds, that of a user who has too many as well.
const PIPE_MIN: usize = 4096;

fn how(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Signaled(signal),
        (None, None) => How::Lost,
    }
}

fn event(whose: &Whose, what: Happened) -> JobEvent {
    JobEvent { whose: whose.clone(), what }
}

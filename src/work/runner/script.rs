//! One process: its start, its two pipes, its signals, its end.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::pipe;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::clock::Now;
use crate::config::files;
use crate::work::event::{Happened, How, JobEvent, StartError};
use crate::work::job::{About, Job};
use crate::work::jobs::Order;
use crate::work::output::{Output, State, Stream};

/// A started script that was not reaped.
#[derive(Debug)]
pub(super) struct Script {
    /// Whose it is.
    pub(super) about: Arc<About>,
    /// When (monotonic).
    pub(super) started: Duration,
    child: Child,
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
        let program = &job.action().program;
        files::check_program(program)?;
        Script::spawn(registry, tokens, now, job)
            .map_err(|error| StartError::Spawn { program: program.clone(), error })
    }

    fn spawn(registry: &Registry, [out, err]: [Token; 2], now: Now, job: &Job) -> io::Result<Script> {
        // All that can fail comes first: once there is a process, it is in the books.
        let (stdout, stdout_end) = Pipe::open(registry, out, Stream::Stdout)?;
        let (stderr, stderr_end) = Pipe::open(registry, err, Stream::Stderr)?;
        let action = job.action();
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        let mut command = Command::new(&action.program);
        command
            .args(job.args())
            .env_clear()
            .envs(job.env().iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(stdin(job)?)
            .stdout(stdout_end)
            .stderr(stderr_end);
        if let Some(run_as) = action.run_as {
            // With a uid, std also drops the supplementary groups.
            command.uid(run_as.uid).gid(run_as.gid);
        }
        // A script inherits the mask of the thread that starts it.
        let mask = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        mask.thread_set_mask()?;
        Ok(Script {
            about: Arc::clone(job.about()),
            started: now.mono,
            child: child?,
            pipes: [stdout, stderr],
            output: Output::new(action.max_output),
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
                events.push(event(&self.about, piece.into()));
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
        self.output.finish(&mut |piece| events.push(event(&self.about, piece.into())));
    }

    /// Signals the process group; the script by itself too, if it left its group.
    pub(super) fn signal(&mut self, order: Order) -> Result<(), Errno> {
        let pid = self.pid();
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
        // Looked at first, reaped second: until then the process id, and the group's, are taken.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid()), peek) {
            Ok(WaitStatus::StillAlive) => return Reaped::Alive,
            // Somebody else reaped it: nothing is known about the id any more.
            Err(Errno::ECHILD) => return Reaped::Gone(How::Lost),
            // A death by a real-time signal is an Err here.
            Ok(_) | Err(_) => {}
        }
        if rest == Rest::End {
            // Its children, if it left any.
            killpg(self.pid(), Signal::SIGKILL).ok();
        }
        match self.child.try_wait() {
            Ok(Some(status)) => Reaped::Gone(how(status)),
            Ok(None) => Reaped::Alive,
            Err(_) => Reaped::Gone(How::Lost),
        }
    }

    /// The process's id, and its group's.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
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
    fn open(registry: &Registry, token: Token, stream: Stream) -> io::Result<(Pipe, Stdio)> {
        let (sender, mut end) = pipe::new()?;
        sender.set_nonblocking(false)?;
        registry.register(&mut end, token, Interest::READABLE)?;
        let more = More::No;
        Ok((Pipe { stream, end, more }, OwnedFd::from(sender).into()))
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

/// What the script reads: a pipe that holds all of it already, so that nobody writes to a script that does not read.
fn stdin(job: &Job) -> io::Result<Stdio> {
    let Some(payload) = job.stdin() else {
        return Ok(Stdio::null());
    };
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(payload)?;
    Ok(reader.into())
}

fn how(status: ExitStatus) -> How {
    match (status.code(), status.signal()) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Signaled(signal),
        (None, None) => How::Lost,
    }
}

fn event(about: &Arc<About>, what: Happened) -> JobEvent {
    JobEvent { about: Arc::clone(about), what }
}

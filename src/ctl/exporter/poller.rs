//! Asks the daemon, on a thread of its own: a daemon that is slow holds up nobody who wants something else.
//!
//! In: a wish to know. Out: the status, good for a second for everybody who asks. Never: two questions at once.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use mio::Waker;

use super::pages::Seen;
use crate::clock::Now;
use crate::control::status::Status;
use crate::exit::{self, Failure};

/// Knows what the daemon said last.
pub(super) struct Poller {
    ask: SyncSender<()>,
    answers: Receiver<Seen>,
    /// And when (monotonic).
    last: Option<(Duration, Seen)>,
}

impl Poller {
    /// `waker` is called when there is an answer.
    pub(super) fn start(
        mut fetch: impl FnMut() -> Result<Status, Failure> + Send + 'static,
        waker: Waker,
    ) -> io::Result<Poller> {
        let (ask, asked) = sync_channel(1);
        let (answer, answers) = channel();
        let run = move || {
            let mut said = None;
            while let Ok(()) = asked.recv() {
                let seen = fetch().map(Arc::new).map_err(|failure| failure.what);
                tell(&mut said, seen.as_ref().err());
                // Nobody listens any more when the program ends.
                drop(answer.send(seen));
                drop(waker.wake());
            }
        };
        std::thread::Builder::new().name("ask".to_owned()).spawn(run)?;
        Ok(Poller { ask, answers, last: None })
    }

    /// What the daemon said within the last second. `None`: it is asked, and the waker will be called.
    pub(super) fn look(&mut self, now: Now) -> Option<&Seen> {
        if let Some(seen) = self.answers.try_iter().last() {
            self.last = Some((now.mono, seen));
        }
        self.last.take_if(|(at, _)| now.mono.saturating_sub(*at) >= FRESH);
        if self.last.is_none() {
            match self.ask.try_send(()) {
                // Full: it is being asked.
                Ok(()) | Err(_) => {}
            }
        }
        self.last.as_ref().map(|(_, seen)| seen)
    }
}

/// Says on standard error when the daemon stops answering, and when it answers again.
fn tell(said: &mut Option<String>, failure: Option<&String>) {
    if said.as_ref() != failure {
        exit::note(failure.map_or("siglatchd answers again", |what| what));
        *said = failure.cloned();
    }
}

/// So often at most the daemon is asked.
const FRESH: Duration = Duration::from_secs(1);

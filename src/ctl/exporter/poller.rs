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
    asked: Asked,
    /// And when (monotonic).
    last: Option<(Duration, Seen)>,
}

/// Whether an answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Poller {
    /// `waker` is called when there is an answer, for [`arrived`](Self::arrived).
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
        Ok(Poller { ask, answers, asked: Asked::No, last: None })
    }

    /// What the daemon said within the last second. `None`: it is asked, and the waker will be called.
    pub(super) fn look(&mut self, now: Now) -> Option<&Seen> {
        self.last.take_if(|(at, _)| now.mono.saturating_sub(*at) >= FRESH);
        if self.last.is_none() && self.asked == Asked::No && self.ask.try_send(()).is_ok() {
            self.asked = Asked::Yes;
        }
        self.last.as_ref().map(|(_, seen)| seen)
    }

    /// The waker was called: whether or not anybody still waits for it, the answer is of now.
    pub(super) fn arrived(&mut self, now: Now) {
        if let Ok(seen) = self.answers.try_recv() {
            (self.asked, self.last) = (Asked::No, Some((now.mono, seen)));
        }
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

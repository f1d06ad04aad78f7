//! SIGHUP: a new configuration, whole, or the old one and the reasons.
//!
//! It is read on a thread of its own: a slow disk, a user database across the network or very many users hold up
//! neither a knock nor the stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use mio::Waker;

use crate::config::{self, Config, Loaded, Problems};

/// Reads one configuration at a time.
#[derive(Debug)]
pub(super) struct Reload {
    waker: Arc<Waker>,
    under_way: Option<Receiver<Result<Loaded, Problems>>>,
    again: Again,
}

/// Whether it was asked for while one was read that may be older than the asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

impl Reload {
    /// `waker` is called when there is something to [`finished`](Self::finished).
    pub(super) fn new(waker: Arc<Waker>) -> Reload {
        Reload { waker, under_way: None, again: Again::No }
    }

    /// Begins to read `path`; once more afterwards if it is being read.
    pub(super) fn begin(&mut self, path: PathBuf) {
        if self.under_way.is_some() {
            self.again = Again::Yes;
            return;
        }
        let (sender, receiver) = channel();
        let waker = Arc::clone(&self.waker);
        let read = move || {
            // Nobody listens any more when the daemon stops; the loop's next wake sees what a failed one tells.
            drop(sender.send(config::load(&path)));
            drop(waker.wake());
        };
        match std::thread::Builder::new().name("reload".to_owned()).spawn(read) {
            Ok(_) => self.under_way = Some(receiver),
            Err(error) => {
                log::error!(code = "reload-failed", error:%; "not reloaded, the old configuration stays: no thread");
            }
        }
    }

    /// Whether one is read.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The configuration to go on with, where one was read and is a new one.
    pub(super) fn finished(&mut self, old: &Config) -> Option<Arc<Config>> {
        let read = match self.under_way.as_ref()?.try_recv() {
            Ok(read) => Some(read),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
        };
        self.under_way = None;
        let new = read.and_then(|read| accept(old, read));
        if std::mem::replace(&mut self.again, Again::No) == Again::Yes {
            self.begin(old.path.clone());
        }
        new
    }
}

fn accept(old: &Config, read: Result<Loaded, Problems>) -> Option<Arc<Config>> {
    let loaded = match read {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems.iter() {
                log::error!(code = "config-problem", what = problem.summary(); "the configuration has a problem");
            }
            log::error!(code = "reload-failed", problems = problems.len(); "not reloaded, the old configuration stays");
            return None;
        }
    };
    for warning in loaded.warnings.iter() {
        log::warn!(code = "config-warning", what = warning.summary(); "the configuration has a weak spot");
    }
    let fixed = old.restart_changes(&loaded.config);
    if !fixed.is_empty() {
        log::error!(
            code = "reload-failed", restart = fixed.join(", ");
            "not reloaded, the old configuration stays: these change at restart only"
        );
        return None;
    }
    let (users, actions) = (loaded.config.users.len(), loaded.config.actions.len());
    log::info!(code = "reloaded", users, actions, warnings = loaded.warnings.len(); "reloaded");
    Some(Arc::new(loaded.config))
}

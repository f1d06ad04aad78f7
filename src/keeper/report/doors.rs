//! What is said of doors: their leases, and what closes them.

use super::Report;
use super::knocks::decision;
use crate::audit::Event;
use crate::clock::Now;
use crate::keeper::logging;
use crate::work::leases::{Alarm, Happening, Note, Renewing, Undoing};
use crate::work::{About, Happened, How};

impl Report {
    /// A knock that was accepted, for which nothing runs.
    pub(in crate::keeper) fn accepted(&mut self, now: Now, about: &About, what: &'static str) {
        self.counts.ran();
        self.trail.knock(now, about, |knock| Event::Accepted { knock, what });
        self.decided(decision(now, about, what));
        log::info!(
            code = "accepted", knock:% = about.knock, user = about.user.name, action = about.action.name,
            from:% = about.source, bound:% = about.bound, what;
            "knock accepted"
        );
    }

    /// What became of a lease.
    pub(in crate::keeper) fn lease(&mut self, now: Now, note: &Note) {
        self.trail.lease(now, note);
        let (lease, user, action, from) = (note.lease, &note.user, &note.door.action, note.door.source);
        match note.what {
            Happening::Began(hold) => {
                let seconds = hold.as_secs();
                log::info!(code = "lease-began", lease:%, user, action, from:%, seconds; "lease began");
            }
            Happening::Extended(left) => {
                let seconds = left.as_secs();
                log::info!(code = "lease-extended", lease:%, user, action, from:%, seconds; "lease goes on");
            }
            Happening::Ended(reason) => {
                log::info!(code = "lease-ended", lease:%, user, action, from:%, reason:%; "lease ended");
            }
            Happening::UndoFailed(again, alarm) => {
                self.undo_failed = self.undo_failed.saturating_add(1);
                let (level, again) = (level(alarm), format!("{}s", again.as_secs()));
                log::log!(
                    level, code = "undo-failed", lease:%, user, action, from:%, again;
                    "a door could not be closed, it is tried again"
                );
            }
            Happening::RenewalFailed(again, alarm) => {
                let (level, again) = (level(alarm), format!("{}s", again.as_secs()));
                log::log!(
                    level, code = "renewal-failed", lease:%, user, action, from:%, again;
                    "the kernel could not be told when a door ends, it is tried again"
                );
            }
        }
    }

    /// What becomes of telling the kernel when a door ends.
    pub(super) fn renewal(&self, renewing: &Renewing, what: &Happened) {
        let Renewing { door, lease, user, left } = renewing;
        let (action, from) = (&door.action, door.source);
        match what {
            Happened::Queued | Happened::Started | Happened::OutputCut => {}
            Happened::Line(..) if logging::is_crowded() => logging::lose(),
            Happened::Line(stream, text) => {
                log::info!(code = "output", lease:%, action, stream:%, text; "script output");
            }
            Happened::Finished { how: How::Exited(0), .. } => {
                let seconds = left.as_secs();
                log::debug!(code = "renewed", lease:%, user, action, from:%, seconds; "the kernel knows when a door ends");
            }
            // Told as what became of the door.
            Happened::Refused(_)
            | Happened::TimedOut
            | Happened::NotSignalled(_)
            | Happened::Finished { .. } => {}
        }
    }

    /// What becomes of a script that closes a door.
    pub(super) fn undo(&mut self, now: Now, undoing: &Undoing, what: &Happened) {
        let Undoing { door, lease, user, attempt, reason } = undoing;
        let (action, from) = (&door.action, door.source);
        match what {
            Happened::Queued => {}
            Happened::Started => {
                self.trail.undo_started(now, undoing);
                log::info!(code = "undo-started", lease:%, user, action, from:%, reason:%, attempt; "door closes");
            }
            Happened::Refused(why) => {
                log::warn!(code = "undo-not-started", lease:%, user, action, from:%, why:%; "door does not close");
            }
            Happened::Line(..) if logging::is_crowded() => logging::lose(),
            Happened::Line(stream, text) => {
                log::info!(code = "output", lease:%, action, stream:%, text; "script output");
            }
            Happened::OutputCut => {
                log::warn!(code = "output-cut", lease:%, action; "script output beyond max_output is thrown away");
            }
            Happened::TimedOut => {
                log::warn!(code = "timeout", lease:%, action; "script told to end, its time is up");
            }
            Happened::NotSignalled(error) => {
                log::error!(code = "not-signalled", lease:%, action, error:%; "script could not be told to end");
            }
            Happened::Finished { how, took } => {
                self.trail.undo_finished(now, undoing, *how, *took);
                let took = format!("{}ms", took.as_millis());
                match how {
                    How::Exited(0) => {
                        log::info!(code = "undo-finished", lease:%, user, action, from:%, rc = 0, took; "door closed");
                    }
                    How::Exited(rc) => {
                        log::warn!(code = "undo-finished", lease:%, user, action, from:%, rc, took; "script finished");
                    }
                    How::Signaled(signal) => {
                        log::warn!(code = "undo-finished", lease:%, user, action, from:%, signal, took; "script finished");
                    }
                    How::Lost => {
                        log::warn!(code = "undo-finished", lease:%, user, action, from:%, took; "script finished, nobody knows how");
                    }
                }
            }
        }
    }
}

fn level(alarm: Alarm) -> log::Level {
    match alarm {
        Alarm::Loud => log::Level::Error,
        Alarm::Quiet => log::Level::Warn,
    }
}

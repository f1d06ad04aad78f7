//! A key that is to be another.

use std::time::Duration;

/// Whether a user may exchange his key (`wire::enrol`), and what it is good for until he has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exchange {
    /// He may not: it is good for all that he may run.
    #[default]
    Never,
    /// Until then (since the Unix epoch); it is good for all, but from then on not beside another that he has sent for.
    Rotates(Duration),
    /// It is an invite's, and good for nothing else.
    Invites {
        /// Until when he may.
        until: Duration,
        /// And until when the key that he has then.
        then: Option<Duration>,
    },
    /// It was an invite's, and was exchanged: whoever sends for another with it until then is somebody else.
    Spent(Duration),
}

impl Exchange {
    /// Until when, in Unix seconds.
    pub fn leave(self) -> Option<u64> {
        match self {
            Exchange::Never => None,
            Exchange::Rotates(until) | Exchange::Invites { until, .. } | Exchange::Spent(until) => {
                Some(until.as_secs())
            }
        }
    }

    /// What is so of the key that it was exchanged for, with the leave until `used` (Unix seconds).
    pub fn after(self, used: u64) -> Exchange {
        match self {
            Exchange::Rotates(until) | Exchange::Invites { then: Some(until), .. }
                if until.as_secs() != used =>
            {
                Exchange::Rotates(until)
            }
            Exchange::Never | Exchange::Rotates(_) | Exchange::Invites { .. } | Exchange::Spent(_) => {
                Exchange::Never
            }
        }
    }
}

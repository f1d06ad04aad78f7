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
    /// Until then: it is an invite's, and good for nothing else.
    Invites(Duration),
}

impl Exchange {
    /// Until when, in Unix seconds.
    pub fn leave(self) -> Option<u64> {
        match self {
            Exchange::Never => None,
            Exchange::Rotates(until) | Exchange::Invites(until) => Some(until.as_secs()),
        }
    }
}

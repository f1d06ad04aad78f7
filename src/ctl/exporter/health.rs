//! Whether knocks are taken, from a status. Pure.

use std::fmt;

use crate::control::status::{Phase, Status};

/// What was looked at, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    checks: Vec<(&'static str, Option<String>)>,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Both processes live, and what is between them and below them.
    Health,
    /// And a good knock would run now.
    Readiness,
}

impl Verdict {
    /// Of a daemon that answered, or did not, and why.
    pub(super) fn of(asked: Asked, status: Result<&Status, &str>) -> Verdict {
        let status = match status {
            Ok(status) => status,
            Err(why) => return Verdict { checks: vec![("daemon", Some(why.to_owned()))] },
        };
        let (listener, store) = (&status.listener, &status.store);
        let receives = if listener.well { None } else { Some("does not receive".to_owned()) };
        let silent = (listener.silent > SILENCE_MS)
            .then(|| format!("nothing was heard from the listener for {} ms", listener.silent));
        let mut checks = vec![
            ("daemon", None),
            ("listener", receives),
            ("channel", silent),
            ("store", store.failing.clone()),
        ];
        match asked {
            Asked::Health => {}
            Asked::Readiness => {
                checks.push((
                    "knocks",
                    match status.phase {
                        Phase::Starting => Some("the daemon is starting".to_owned()),
                        Phase::Serving => None,
                        Phase::Stopping => Some("the daemon is stopping".to_owned()),
                    },
                ));
                checks.push((
                    "room",
                    store.claims.filter(|claims| *claims >= store.max_claims).map(|claims| {
                        format!("{claims} of {} claims: no more can be remembered", store.max_claims)
                    }),
                ));
            }
        }
        Verdict { checks }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_good(&self) -> bool {
        self.checks.iter().all(|(_, wrong)| wrong.is_none())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks
            .iter()
            .try_for_each(|(name, wrong)| writeln!(f, "{name}: {}", wrong.as_deref().unwrap_or("ok")))
    }
}

/// A listener says each second that it is alive; its keeper ends it after 5 s of silence.
const SILENCE_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::exporter::tests::status;

    fn wrong(asked: Asked, change: impl FnOnce(&mut Status)) -> Vec<&'static str> {
        let mut status = status();
        change(&mut status);
        let verdict = Verdict::of(asked, Ok(&status));
        let wrong = verdict.checks.iter().filter(|(_, wrong)| wrong.is_some()).map(|(name, _)| *name);
        assert_eq!(verdict.is_good(), wrong.clone().count() == 0);
        wrong.collect()
    }

    #[test]
    fn a_daemon_that_does_its_work_is_healthy_and_ready() {
        for asked in [Asked::Health, Asked::Readiness] {
            assert_eq!(wrong(asked, |_| {}), [""; 0]);
        }
    }

    #[test]
    fn each_part_that_fails_is_named() {
        for asked in [Asked::Health, Asked::Readiness] {
            assert_eq!(wrong(asked, |status| status.listener.well = false), ["listener"]);
            assert_eq!(wrong(asked, |status| status.listener.silent = 5001), ["channel"]);
            assert_eq!(wrong(asked, |status| status.store.failing = Some("disk full".into())), ["store"]);
            let verdict = Verdict::of(asked, Err("cannot ask siglatchd"));
            assert!(!verdict.is_good());
            assert_eq!(verdict.to_string(), "daemon: cannot ask siglatchd\n");
        }
    }

    #[test]
    fn a_daemon_that_would_run_no_knock_is_healthy_and_not_ready() {
        let stopping: fn(&mut Status) = |status| status.phase = Phase::Stopping;
        let full: fn(&mut Status) = |status| status.store.claims = Some(status.store.max_claims);
        for (change, name) in [(stopping, "knocks"), (full, "room")] {
            assert_eq!(wrong(Asked::Health, change), [""; 0]);
            assert_eq!(wrong(Asked::Readiness, change), [name]);
        }
    }
}

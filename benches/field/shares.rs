//! Who uses the processors while the daemon is as busy as it can be.

use crate::process::{Process, SCRIPTS, thread_times};
use crate::{Try, clock};

/// Processor time so far, in seconds.
pub(crate) struct Times {
    at: u64,
    threads: Vec<(&'static str, f64)>,
}

impl Times {
    /// Of the daemon and of this process.
    pub(crate) fn now(daemon: &Process) -> Try<Times> {
        let at = clock::nanos();
        let mut threads: Vec<_> =
            thread_times(std::process::id()).into_iter().map(|(_, seconds)| (SELF, seconds)).collect();
        let named = |(name, seconds): (String, f64)| Some((role(&name)?, seconds));
        threads.extend(daemon.processor_time()?.into_iter().filter_map(named));
        Ok(Times { at, threads })
    }

    /// What each has used since; the last is what nobody used, and the kernel for itself.
    pub(crate) fn until(&self, daemon: &Process) -> Try<Vec<(&'static str, f64)>> {
        let now = Times::now(daemon)?;
        let of = |times: &Times, role| -> f64 {
            times.threads.iter().filter(|(name, _)| *name == role).map(|(_, seconds)| seconds).sum()
        };
        let processors = std::thread::available_parallelism()?.get() as f64;
        let mut rest = processors * (now.at - self.at) as f64 / 1e9;
        let mut shares = Vec::new();
        for (_, role) in ROLES.into_iter().chain([("", SELF)]) {
            let seconds = of(&now, role) - of(self, role);
            rest -= seconds;
            shares.push((role, seconds));
        }
        shares.push(("idle, and the kernel", rest));
        Ok(shares)
    }
}

fn role(thread: &str) -> Option<&'static str> {
    ROLES.into_iter().find(|(name, _)| thread.starts_with(name)).map(|(_, role)| role)
}

/// What threads' names begin with, and what they do. A name is looked for in this order.
const ROLES: [(&str, &str); 6] = [
    ("siglatchd", "keeper: judge, start scripts, reap"),
    ("siglatch-listen", "listener: receive, admit"),
    ("opener", "listener: private-key operations"),
    ("store", "keeper: store"),
    ("log", "keeper: log"),
    (SCRIPTS, "scripts, from fork to end"),
];
const SELF: &str = "load generator";

//! The keeper without signals, threads and processes, a step at a time: for fuzzing.

use std::collections::BTreeMap;

use super::knocks::{give_back, submit};
use super::*;
use crate::channel::{self, Channel, Opened};
use crate::config::files;
use crate::control::status::Audit;
use crate::judge::{Decoys, DropReason, Grant, Verdict};
use crate::keeper::listener::{Ear, Judged, Loss};
use crate::store::Store;
use crate::store::thread::{Reply, by_hand::Engine};
use crate::work::jobs::{Admit, Jobs, Order, Slot};
use crate::work::leases::{Leases, Record};
use crate::work::{Happened, How, Job, JobEvent, StartError, Whose};

/// As the loop's, with [`Jobs`] in the runner's place: what would be started is only checked.
pub(crate) struct Keeper {
    config: Arc<Config>,
    /// `None`: its listener was given up.
    ear: Option<Ear>,
    judge: Judge,
    store: StoreThread<Claim>,
    engine: Engine<Claim>,
    jobs: Jobs,
    doors: Doors,
    receipts: Receipts,
    answers: Vec<channel::Reply>,
    scripts: BTreeMap<Slot, Whose>,
    started: Vec<Arc<About>>,
    report: Report,
    phase: Phase,
}

/// What the listener said.
#[expect(clippy::large_enum_variant, reason = "as with Said")]
pub(crate) enum Heard {
    /// It was opened, and waits for the store now, or is refused.
    Opened(Opened, Result<(), DropReason>),
    /// Anything else.
    Other,
    /// Nothing more for now, or ever.
    Nothing,
}

impl Keeper {
    /// `queue` requests may wait for the store.
    pub(crate) fn new(
        now: Now,
        config: Arc<Config>,
        decoys: Decoys,
        mut store: Box<dyn Store>,
        queue: usize,
        channel: Channel,
    ) -> Keeper {
        let rows = store.doors(now.unix()).unwrap_or_default();
        let rows = rows.into_iter().filter_map(|(key, text)| Some((key, Record::parse(&text).ok()?)));
        let mut leases = Leases::new("this boot", config.limits.max_doors);
        leases.recover(now, rows);
        let (store, engine) = StoreThread::by_hand(store, queue);
        Keeper {
            judge: Judge::new(Arc::clone(&config), decoys),
            jobs: Jobs::new(config.limits.max_jobs),
            doors: Doors::new(leases),
            receipts: Receipts::default(),
            answers: Vec::new(),
            ear: Some(Ear::new(now, channel, config.limits.workers, config.limits.queue)),
            config,
            store,
            engine,
            scripts: BTreeMap::new(),
            started: Vec::new(),
            report: Report::new(now, Vec::new(), Trail::default(), Audit::default()),
            phase: Phase::Serving,
        }
    }

    /// What it goes by now.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Another listener takes the place of the one before, which is gone.
    pub(crate) fn listener(&mut self, now: Now, channel: Channel) {
        let mut ear = Ear::new(now, channel, self.config.limits.workers, self.config.limits.queue);
        if self.phase == Phase::Stopping {
            ear.stop(now);
        }
        self.ear = Some(ear);
        self.report.counts.listener_gone();
    }

    /// Hears one message.
    pub(crate) fn hear(&mut self, now: Now) -> Result<Heard, Loss> {
        let Some(ear) = &mut self.ear else {
            return Ok(Heard::Nothing);
        };
        match ear.hear(now, SOCKETS) {
            Ok(Said::Opened(opened)) => {
                self.report.counts.opened(opened.lane);
                let judged = submit(&mut self.judge, &self.store, self.phase, now, &opened, |_| None);
                let judged = judged.map_err(|refusal| {
                    self.report.refused(now, &refusal, &self.config);
                    refusal.reason
                });
                Ok(Heard::Opened(opened, judged))
            }
            Ok(Said::Counts(counts)) => {
                self.report.listener(now, counts);
                Ok(Heard::Other)
            }
            Ok(Said::Sources(sources)) => {
                self.report.sources(now, &sources, &self.config);
                Ok(Heard::Other)
            }
            Ok(Said::Ready(_) | Said::Alive) => Ok(Heard::Other),
            Ok(Said::Nothing) => Ok(Heard::Nothing),
            Err(loss) => {
                self.ear = None;
                Err(loss)
            }
        }
    }

    /// Gives up a listener that has been silent for too long.
    pub(crate) fn judge_listener(&mut self, now: Now, drained: Drained) -> Result<(), Loss> {
        match self.ear.as_mut().map(|ear| ear.judge(now, drained)) {
            Some(Judged::Silent) => {
                self.ear = None;
                Err(Loss::Silent)
            }
            Some(Judged::Well) | None => Ok(()),
        }
    }

    /// The store does what waits.
    pub(crate) fn commit(&mut self, now: Now) {
        self.engine.serve(now.unix());
    }

    /// Takes the store's replies, in the order of the claims; `grants` sees each claim's verdict.
    pub(crate) fn claimed(&mut self, now: Now, mut grants: impl FnMut(&Config, Option<&Grant>)) {
        while let Some(reply) = self.store.try_recv() {
            match reply {
                Reply::Claimed(claim, outcome) => match self.judge.claimed(now, claim, outcome.ok()) {
                    Verdict::Grant(grant) => {
                        grants(&self.config, Some(&grant));
                        self.granted(now, grant);
                    }
                    Verdict::Refuse(refusal) => {
                        give_back(&self.store, refusal.unused);
                        grants(&self.config, None);
                        self.answers.extend(Receipts::refused(now, &refusal, &self.config));
                        self.report.refused(now, &refusal, &self.config);
                    }
                },
                Reply::Failing(error) => self.report.store_failing(&error),
                Reply::Recovered { refused } => self.report.store_recovered(refused),
                Reply::Kept(key, result) => self.doors.kept(now, &key, result),
                // No action here has a webhook, and nothing here is recorded.
                Reply::Forgotten(_)
                | Reply::KeptHook(..)
                | Reply::KeptKey(..)
                | Reply::Head(_)
                | Reply::FileFailing(_)
                | Reply::FileRecovered
                | Reply::FileBroken(_)
                | Reply::Missed(_) => {}
            }
        }
        self.carry_out(now);
    }

    /// The script in the `nth` place exits.
    pub(crate) fn exit(&mut self, now: Now, nth: usize) {
        let Some(slot) = self.scripts.keys().nth(nth).copied() else {
            return;
        };
        let whose = self.scripts.remove(&slot);
        self.jobs.ended(slot);
        if let Some(whose) = whose {
            let (how, took) = (How::Exited(0), Duration::ZERO);
            self.tell(now, whose, Happened::Finished { how, took });
        }
        self.start_waiting(now);
        self.carry_out(now);
    }

    /// Deadlines: who is killed is gone.
    pub(crate) fn due(&mut self, now: Now) {
        while let Some((slot, order)) = self.jobs.due(now.mono) {
            let place = self.scripts.keys().position(|other| *other == slot);
            match (order, place) {
                (Order::Kill, Some(nth)) => self.exit(now, nth),
                (Order::Kill | Order::Terminate, _) => {}
            }
        }
        while let Some(answer) = self.receipts.due(now) {
            self.answers.push(answer);
        }
        self.doors.due(now);
        self.carry_out(now);
        self.report.summary(now);
    }

    /// What was started since the last call.
    pub(crate) fn started(&mut self) -> Vec<Arc<About>> {
        std::mem::take(&mut self.started)
    }

    /// What was answered since the last call.
    pub(crate) fn answers(&mut self) -> Vec<channel::Reply> {
        std::mem::take(&mut self.answers)
    }

    /// How many knocks are still to be answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.receipts.len()
    }

    /// Prunes the store.
    pub(crate) fn forget(&mut self, now: Now) {
        let before = now.unix().saturating_sub(self.config.freshness.as_secs());
        match self.store.forget(u32::try_from(before).unwrap_or(u32::MAX)) {
            Ok(()) | Err(Busy) => {}
        }
    }

    /// A reload.
    pub(crate) fn swap(&mut self, now: Now, config: Arc<Config>) {
        self.judge.reload(Arc::clone(&config));
        self.jobs.set_max(config.limits.max_jobs);
        let withdrawn = self.jobs.withdraw(|about| {
            let (user, action) = (&about.user, about.action.id);
            self.judge.permits(now, user, action, about.source.ip(), about.bound)
        });
        for (about, reason) in withdrawn {
            self.tell(now, Whose::Knock(about), Happened::Refused(StartError::Withdrawn(reason)));
        }
        let permits = |about: &About| {
            let (user, action) = (&about.user, about.action.id);
            self.judge.permits(now, user, action, about.source.ip(), about.bound)
        };
        self.doors.reload(config.limits.max_doors, permits);
        self.config = config;
        self.start_waiting(now);
        self.carry_out(now);
    }

    /// The signal to stop.
    pub(crate) fn stop(&mut self, now: Now) {
        self.phase = Phase::Stopping;
        if let Some(ear) = &mut self.ear {
            ear.stop(now);
        }
        for job in self.jobs.stop() {
            self.tell(now, job.whose().clone(), Happened::Refused(StartError::Stopping));
        }
        self.doors.shutdown();
        self.carry_out(now);
    }

    /// Takes no more messages: the other end of its channel is closed.
    pub(crate) fn hang_up(&mut self) {
        self.ear = None;
    }

    /// The listener's totals, for one that could not be told.
    pub(crate) fn listener_counts(&mut self, counts: channel::Counts) {
        self.report.counts.listener(counts);
    }

    /// Received, ran, and refused by reason.
    pub(crate) fn counts(&self) -> (u64, u64, Vec<(DropReason, u64)>) {
        let counts = &self.report.counts;
        (counts.received(), counts.all_ran(), counts.by_reason().collect())
    }

    /// Whether nothing runs, and no door is just being opened or closed.
    pub(crate) fn is_settled(&self) -> bool {
        self.scripts.is_empty() && self.doors.is_settled()
    }

    fn granted(&mut self, now: Now, grant: Grant) {
        let Keeper { receipts, doors, store, report, config, .. } = self;
        let granted::Taken { job, reply, .. } =
            granted::take(now, grant, receipts, doors, store, report, config);
        job.into_iter().for_each(|job| self.start(now, job));
        self.answers.extend(reply);
    }

    fn carry_out(&mut self, now: Now) {
        loop {
            let mut jobs = Vec::new();
            let refused = self.doors.carry_out(now, &self.store, |job| jobs.push(job), &mut self.report);
            for (about, reason) in refused {
                self.answers.extend(self.receipts.withdrawn(now, &about, reason));
            }
            if jobs.is_empty() {
                return;
            }
            jobs.into_iter().for_each(|job| self.start(now, job));
        }
    }

    fn start(&mut self, now: Now, job: Job) {
        let whose = job.whose().clone();
        match self.jobs.admit(job) {
            Admit::Start(job) => self.spawn(now, &job),
            Admit::Wait => self.tell(now, whose, Happened::Queued),
            Admit::Refuse(error) => self.tell(now, whose, Happened::Refused(error)),
        }
    }

    fn start_waiting(&mut self, now: Now) {
        while let Some(job) = self.jobs.next_waiting() {
            self.spawn(now, &job);
        }
    }

    fn spawn(&mut self, now: Now, job: &Job) {
        let what = match files::check_program(job.program()) {
            Ok(()) => {
                self.scripts.insert(self.jobs.free_slot(), job.whose().clone());
                self.jobs.started(now.mono, job);
                self.started.extend(job.whose().knock().cloned());
                Happened::Started
            }
            Err(file) => Happened::Refused(file.into()),
        };
        self.tell(now, job.whose().clone(), what);
    }

    fn tell(&mut self, now: Now, whose: Whose, what: Happened) {
        if let (Whose::Knock(about), Happened::Refused(_)) = (&whose, &what) {
            give_back(&self.store, about.used);
        }
        let event = JobEvent { whose, what };
        self.report.job(now, &event);
        let answers = self.receipts.job(now, &event, |door, user| self.doors.left(now, door, user));
        self.answers.extend(answers);
        self.doors.happened(now, &event, &self.store);
    }
}

/// What each listener gets.
pub(crate) const SOCKETS: usize = 2;

//! An engine on a thread of its own.
//!
//! In: claims, one by one, each with a ticket of the caller's, doors, webhooks, and events for the trail. Out: the tickets,
//! each with its outcome, which doors and webhooks are kept, and heads of the trail. Whatever arrived while a commit ran
//! shares the next one. Never blocks the caller, but in [`StoreThread::close`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

use super::doors::{DoorKey, DoorRow};
use super::hooks::HookRow;
use super::journal::BrokenFile;
use super::keys::KeyRow;
use super::moved::MovedRow;
use super::{Journal, Outcome, Record, Store, StoreError, Used};
use crate::audit::{Entry, Head};
use crate::crash;
use crate::wire::KnockId;

#[cfg(feature = "fuzzing")]
pub(crate) mod by_hand;
mod trail;

/// Requests that may wait.
pub const QUEUE: usize = 1024;

/// Claims that share a transaction at most.
pub const GROUP: usize = 512;

/// Records that may wait to be in the trail's file as long as there are claims.
const MANY: u64 = 64;

/// What the thread has to say.
#[derive(Debug)]
pub enum Reply<T> {
    /// What became of the claim with this ticket.
    Claimed(T, Result<Outcome, NotRecorded>),
    /// Whether this door is kept as it was given; in the order of giving.
    Kept(DoorKey, Result<(), NotRecorded>),
    /// Whether this webhook is kept as it was given; in the order of giving.
    KeptHook(KnockId, Result<(), NotRecorded>),
    /// Whether what became of this user's key is kept as it was given; in the order of giving.
    KeptKey(Box<KeyRow>, Result<(), NotRecorded>),
    /// A `forget` was carried out; so many claims are left.
    Forgotten(u64),
    /// The engine fails, or fails differently than before. Said once, not per claim.
    Failing(StoreError),
    /// The engine works again.
    Recovered {
        /// Claims that were refused meanwhile.
        refused: u64,
    },
    /// The trail is signed, and on the disk, up to here.
    Head(Head),
    /// The trail's file cannot be written, for this reason; it is written when it can be.
    FileFailing(StoreError),
    /// The trail's file is whole again.
    FileRecovered,
    /// The trail's file was not as it was left, and is what the store has again.
    FileBroken(BrokenFile),
    /// So many events have no record, since the start: there was no room for them while the engine failed.
    Missed(u64),
}

/// The claim or door could not be recorded: it must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store could not record it")]
pub struct NotRecorded;

/// The queue is full, or the thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more requests")]
pub struct Busy;

/// Owns an engine on a thread. Dropping it finishes what is queued, closes the engine and joins the thread.
#[derive(Debug)]
pub struct StoreThread<T> {
    requests: Option<SyncSender<Request<T>>>,
    replies: Receiver<Reply<T>>,
    thread: Option<JoinHandle<()>>,
    /// Events wait in the queue.
    noting: Arc<AtomicBool>,
}

impl<T: Send + 'static> StoreThread<T> {
    /// Starts the thread. `wall` reads the wall clock (Unix seconds), once per transaction; `wake` is called whenever
    /// there is something new to [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(
        store: Box<dyn Store>,
        wall: impl Fn() -> u64 + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<StoreThread<T>> {
        StoreThread::start_telling(store, None, wall, wake)
    }

    /// The same with a trail of what is claimed and noted.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_telling(
        store: Box<dyn Store>,
        journal: Option<Journal>,
        wall: impl Fn() -> u64 + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<StoreThread<T>> {
        let (requests, queue) = sync_channel(QUEUE.saturating_add(1));
        let noting = Arc::new(AtomicBool::new(false));
        let (worker, replies) = Worker::new(store, journal, Arc::clone(&noting));
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(&queue, wall, wake))?;
        Ok(StoreThread { requests: Some(requests), replies, thread: Some(thread), noting })
    }

    /// Asks for a claim.
    ///
    /// # Errors
    ///
    /// The ticket, when the queue is full or the thread is gone.
    pub fn submit(&self, record: Record, ticket: T) -> Result<(), T> {
        self.submit_telling(record, None, ticket)
    }

    /// Asks for a claim, and that this is recorded with it if it is new.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_telling(&self, record: Record, intent: Option<Entry>, ticket: T) -> Result<(), T> {
        match self.send(Request::Claim(record, intent.map(Box::new), ticket)) {
            Err(Request::Claim(_, _, ticket)) => Err(ticket),
            Ok(())
            | Err(
                Request::Keep(_)
                | Request::KeepHook(_)
                | Request::KeepKey(_)
                | Request::Forget(_)
                | Request::KeepMoved(_)
                | Request::GiveBack(_)
                | Request::Note(_)
                | Request::Checkpoint,
            ) => Ok(()),
        }
    }

    /// Asks to record these events.
    ///
    /// # Errors
    ///
    /// The events: try again later.
    pub fn note(&self, entries: Vec<Entry>) -> Result<(), Vec<Entry>> {
        // One at a time, so that events leave the queue to claims.
        if self.noting.swap(true, Ordering::AcqRel) {
            return Err(entries);
        }
        match self.send(Request::Note(entries)) {
            Err(Request::Note(entries)) => {
                self.noting.store(false, Ordering::Release);
                Err(entries)
            }
            Ok(())
            | Err(
                Request::Claim(..)
                | Request::Keep(_)
                | Request::KeepHook(_)
                | Request::KeepKey(_)
                | Request::Forget(_)
                | Request::KeepMoved(_)
                | Request::GiveBack(_)
                | Request::Checkpoint,
            ) => Ok(()),
        }
    }

    /// Asks to sign the trail, if there is anything new in it.
    ///
    /// # Errors
    ///
    /// [`Busy`]: try again later.
    pub fn checkpoint(&self) -> Result<(), Busy> {
        self.send(Request::Checkpoint).map_err(|_| Busy)
    }

    /// Asks to keep a door.
    ///
    /// # Errors
    ///
    /// [`Busy`]: it is not kept.
    pub fn keep(&self, row: DoorRow) -> Result<(), Busy> {
        self.send(Request::Keep(row)).map_err(|_| Busy)
    }

    /// Asks to keep a webhook.
    ///
    /// # Errors
    ///
    /// [`Busy`]: it is not kept.
    pub fn keep_hook(&self, row: HookRow) -> Result<(), Busy> {
        self.send(Request::KeepHook(row)).map_err(|_| Busy)
    }

    /// Asks to keep what became of a user's key.
    ///
    /// # Errors
    ///
    /// [`Busy`]: it is not kept.
    pub fn keep_key(&self, row: KeyRow) -> Result<(), Busy> {
        self.send(Request::KeepKey(Box::new(row))).map_err(|_| Busy)
    }

    /// Asks to keep under which key a user knocked. Nothing waits for it.
    ///
    /// # Errors
    ///
    /// [`Busy`]: it is not kept.
    pub fn keep_moved(&self, row: MovedRow) -> Result<(), Busy> {
        self.send(Request::KeepMoved(row)).map_err(|_| Busy)
    }

    /// Asks to forget claims with a timestamp below `before`.
    ///
    /// # Errors
    ///
    /// [`Busy`]: try again later.
    pub fn forget(&self, before: u32) -> Result<(), Busy> {
        self.send(Request::Forget(before)).map_err(|_| Busy)
    }

    /// Asks to give back a use of which nothing came.
    ///
    /// # Errors
    ///
    /// [`Busy`]: it stays used.
    pub fn give_back(&self, used: Used) -> Result<(), Busy> {
        self.send(Request::GiveBack(used)).map_err(|_| Busy)
    }

    /// The next reply, if there is one. What is missing when the thread is gone counts as [`NotRecorded`].
    pub fn try_recv(&self) -> Option<Reply<T>> {
        self.replies.try_recv().ok()
    }

    /// Finishes what is queued, signs the trail, closes the engine and joins the thread. Returns the replies not yet
    /// received; a [`Reply::Failing`] at their end says that the engine did not close in order.
    pub fn close(self) -> Vec<Reply<T>> {
        self.close_telling(Vec::new())
    }

    /// [`close`](Self::close), after these last events are recorded.
    pub fn close_telling(mut self, last: Vec<Entry>) -> Vec<Reply<T>> {
        if let Some(requests) = &self.requests {
            // Waits for room; who is gone records nothing.
            requests.send(Request::Note(last)).unwrap_or_default();
        }
        self.join();
        self.replies.try_iter().collect()
    }

    fn send(&self, request: Request<T>) -> Result<(), Request<T>> {
        let Some(requests) = &self.requests else {
            return Err(request);
        };
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(request) | TrySendError::Disconnected(request) => request,
        })
    }
}

impl<T> StoreThread<T> {
    fn join(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the store's thread ended by a panic");
        }
    }
}

impl<T> Drop for StoreThread<T> {
    fn drop(&mut self) {
        self.join();
    }
}

#[derive(Debug)]
enum Request<T> {
    Claim(Record, Option<Box<Entry>>, T),
    Keep(DoorRow),
    KeepHook(HookRow),
    KeepKey(Box<KeyRow>),
    KeepMoved(MovedRow),
    Forget(u32),
    GiveBack(Used),
    Note(Vec<Entry>),
    Checkpoint,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Claims,
    NoClaim,
}

struct Worker<T> {
    store: Box<dyn Store>,
    journal: Option<Journal>,
    outbox: Sender<Reply<T>>,
    /// What was said last, while the engine fails.
    failing: Option<String>,
    /// What was said last, while the trail's file cannot be written.
    file_failing: Option<String>,
    /// Events without a record, as was said last.
    missed: u64,
    refused: u64,
    noting: Arc<AtomicBool>,
}

/// What a batch of claims consists of.
struct Claims<T> {
    records: Vec<Record>,
    intents: Vec<Option<Box<Entry>>>,
    tickets: Vec<T>,
}

impl<T> Worker<T> {
    fn new(
        store: Box<dyn Store>,
        journal: Option<Journal>,
        noting: Arc<AtomicBool>,
    ) -> (Worker<T>, Receiver<Reply<T>>) {
        let (outbox, replies) = channel();
        let (failing, file_failing) = (None, None);
        (Worker { store, journal, outbox, failing, file_failing, missed: 0, refused: 0, noting }, replies)
    }

    fn run(mut self, queue: &Receiver<Request<T>>, wall: impl Fn() -> u64, wake: impl Fn()) {
        while let Ok(first) = queue.recv() {
            let served = self.serve(first, queue, &wall);
            wake();
            // An engine that fails is tried again by the next claim, or by what comes each half minute. Who knocked is served
            // now: the processors are his until what became of it is noted.
            let many = self.journal.as_ref().is_some_and(|journal| journal.unfiled() >= MANY);
            let tends = (served == Served::NoClaim || many) && self.failing.is_none();
            if tends && self.tend(&wall) == trail::Said::Something {
                wake();
            }
            if served == Served::Claims && self.failing.is_none() {
                let result = self.store.reserve(wall());
                if self.settle(result, 0).is_none() {
                    wake();
                }
            }
        }
        self.end(wall());
        if let Err(error) = self.store.close(wall()) {
            say(&self.outbox, Reply::Failing(error));
            wake();
        }
    }

    /// For `first` and what is behind it one transaction of claims, one of doors, one of webhooks, and one for what ends them.
    /// None depends on one of another kind: what a door or a webhook is for was claimed long ago.
    fn serve(&mut self, first: Request<T>, queue: &Receiver<Request<T>>, wall: impl Fn() -> u64) -> Served {
        let mut claims = Claims { records: Vec::new(), intents: Vec::new(), tickets: Vec::new() };
        let (mut rows, mut hooks, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let (mut next, mut last) = (Some(first), None);
        while let Some(request) = next {
            match request {
                Request::Claim(record, intent, ticket) => {
                    claims.records.push(record);
                    claims.intents.push(intent);
                    claims.tickets.push(ticket);
                }
                Request::Keep(row) => rows.push(row),
                Request::KeepHook(row) => hooks.push(row),
                Request::Note(entries) => {
                    self.noting.store(false, Ordering::Release);
                    // What stopped is not recorded before what was claimed until then.
                    if claims.records.is_empty() { self.note(entries) } else { events.extend(entries) }
                }
                Request::KeepKey(_)
                | Request::KeepMoved(_)
                | Request::Forget(_)
                | Request::GiveBack(_)
                | Request::Checkpoint => last = Some(request),
            }
            let room = last.is_none() && claims.records.len().max(rows.len()).max(hooks.len()) < GROUP;
            next = room.then(|| queue.try_recv().ok()).flatten();
        }
        let served = if claims.records.is_empty() { Served::NoClaim } else { Served::Claims };
        if served == Served::Claims {
            self.claim(wall(), claims);
        }
        self.note(events);
        if !rows.is_empty() {
            self.keep(wall(), rows);
        }
        if !hooks.is_empty() {
            self.keep_hooks(wall(), hooks);
        }
        match last {
            Some(Request::KeepKey(row)) => {
                let result = self.store.keep_key(wall(), &row);
                let kept = self.settle(result, 0).ok_or(NotRecorded);
                say(&self.outbox, Reply::KeptKey(row, kept));
            }
            Some(Request::KeepMoved(row)) => {
                let result = self.store.keep_moved(wall(), &row);
                self.settle(result, 0);
            }
            Some(Request::Forget(before)) => self.forget(wall(), before),
            Some(Request::GiveBack(used)) => {
                let result = self.store.give_back(wall(), used);
                self.settle(result, 0);
            }
            Some(Request::Checkpoint) => self.checkpoint(wall()),
            Some(Request::Claim(..) | Request::Keep(_) | Request::KeepHook(_) | Request::Note(_)) | None => {}
        }
        served
    }

    fn keep(&mut self, wall: u64, rows: Vec<DoorRow>) {
        let result = self.store.keep(wall, &rows);
        crash::point("store-keep-before-reply");
        let kept = self.settle(result, 0).ok_or(NotRecorded);
        for row in rows {
            say(&self.outbox, Reply::Kept(row.key, kept));
        }
    }

    fn keep_hooks(&mut self, wall: u64, rows: Vec<HookRow>) {
        let result = self.store.keep_hooks(wall, &rows);
        let kept = self.settle(result, 0).ok_or(NotRecorded);
        for row in rows {
            say(&self.outbox, Reply::KeptHook(row.id, kept));
        }
    }

    fn claim(&mut self, wall: u64, claims: Claims<T>) {
        let Claims { records, intents, tickets } = claims;
        let result = match &mut self.journal {
            Some(journal) => journal.claim(&mut *self.store, wall, &records, &intents),
            None => self.store.claim(wall, &records),
        };
        crash::point("store-claim-before-reply");
        let outcomes = self.settle(result, records.len() as u64).unwrap_or_default();
        let outcomes = outcomes.into_iter().map(Ok).chain(std::iter::repeat(Err(NotRecorded)));
        for (ticket, outcome) in tickets.into_iter().zip(outcomes) {
            say(&self.outbox, Reply::Claimed(ticket, outcome));
        }
    }

    fn forget(&mut self, wall: u64, before: u32) {
        let result = self.store.forget(wall, before);
        if let Some(left) = self.settle(result, 0) {
            say(&self.outbox, Reply::Forgotten(left));
        }
    }

    /// Reports that the engine began to fail or to work again.
    fn settle<V>(&mut self, result: Result<V, StoreError>, claims: u64) -> Option<V> {
        match result {
            Ok(value) => {
                if self.failing.take().is_some() {
                    let refused = std::mem::take(&mut self.refused);
                    say(&self.outbox, Reply::Recovered { refused });
                }
                Some(value)
            }
            Err(error) => {
                self.refused = self.refused.saturating_add(claims);
                if self.failing.as_deref() != Some(&error.what) {
                    self.failing = Some(error.what.clone());
                    say(&self.outbox, Reply::Failing(error));
                }
                None
            }
        }
    }
}

/// A receiver that is gone wants no replies.
fn say<T>(outbox: &Sender<Reply<T>>, reply: Reply<T>) {
    outbox.send(reply).unwrap_or_default();
}

//! The thread that owns an engine.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use siglatch::exit::Exit;
use siglatch::store::doors::{DoorKey, DoorRow};
use siglatch::store::hooks::HookRow;
use siglatch::store::thread::{GROUP, NotRecorded, QUEUE, Reply};
use siglatch::store::{MemoryStore, Outcome, Record, Store, StoreError, StoreThread};
use siglatch::wire::KnockId;

use super::{NOON, WALL, known, record};

/// Notes each transaction's wall clock and size; waits for the gate if there is one; fails as told.
struct Watched {
    inner: MemoryStore,
    seen: Arc<Mutex<Vec<(u64, usize)>>>,
    gate: Option<Receiver<()>>,
    failing: Arc<Mutex<Option<&'static str>>>,
}

#[derive(Default)]
struct Seen {
    seen: Arc<Mutex<Vec<(u64, usize)>>>,
    failing: Arc<Mutex<Option<&'static str>>>,
}

impl Seen {
    fn store(&self, gate: Option<Receiver<()>>) -> Box<Watched> {
        Box::new(Watched {
            inner: MemoryStore::new(10_000, WALL - 1),
            seen: self.seen.clone(),
            gate,
            failing: self.failing.clone(),
        })
    }
}

impl Watched {
    fn enter(&self, wall: u64, len: usize) -> Result<(), StoreError> {
        if let Some(gate) = &self.gate {
            gate.recv().unwrap_or_default();
        }
        self.seen.lock().unwrap().push((wall, len));
        match *self.failing.lock().unwrap() {
            Some(what) => {
                Err(StoreError { what: what.to_owned(), hint: String::new(), exit: Exit::TryAgain })
            }
            None => Ok(()),
        }
    }
}

impl Store for Watched {
    fn claim(&mut self, wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        self.enter(wall, batch.len())?;
        self.inner.claim(wall, batch)
    }

    fn forget(&mut self, wall: u64, before: u32) -> Result<u64, StoreError> {
        self.enter(wall, 0)?;
        self.inner.forget(wall, before)
    }

    fn keep(&mut self, wall: u64, rows: &[DoorRow]) -> Result<(), StoreError> {
        self.enter(wall, rows.len())?;
        self.inner.keep(wall, rows)
    }

    fn doors(&mut self, wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        self.inner.doors(wall)
    }

    fn keep_hooks(&mut self, wall: u64, rows: &[HookRow]) -> Result<(), StoreError> {
        self.enter(wall, rows.len())?;
        self.inner.keep_hooks(wall, rows)
    }

    fn hooks(&mut self, wall: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
        self.inner.hooks(wall)
    }

    fn close(self: Box<Self>, wall: u64) -> Result<(), StoreError> {
        self.enter(wall, 0)
    }
}

fn start<T: Send + 'static>(store: Box<dyn Store>) -> (StoreThread<T>, Receiver<()>) {
    let (woken, wakes) = channel();
    let wake = move || Sender::send(&woken, ()).unwrap_or_default();
    (StoreThread::start(store, || WALL, wake).unwrap(), wakes)
}

/// Waits for the next reply.
fn next<T: Send + 'static>(thread: &StoreThread<T>, wakes: &Receiver<()>) -> Reply<T> {
    loop {
        if let Some(reply) = thread.try_recv() {
            return reply;
        }
        wakes.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn a_ticket_comes_back_with_its_outcome() {
    let (thread, wakes) = start(Box::new(MemoryStore::new(10, WALL - 1)));
    for (challenge, outcome) in [(1, Outcome::New), (2, Outcome::New), (1, known())] {
        thread.submit(record(NOON, challenge), challenge).unwrap();
        let Reply::Claimed(ticket, result) = next(&thread, &wakes) else { panic!() };
        assert_eq!((ticket, result), (challenge, Ok(outcome)));
    }
}

#[test]
fn claims_that_wait_share_few_transactions_and_keep_their_order() {
    let seen = Seen::default();
    let (open_gate, gate) = channel();
    let (thread, _wakes) = start(seen.store(Some(gate)));
    for challenge in 0..1000 {
        thread.submit(record(NOON, challenge), challenge).unwrap();
    }
    drop(open_gate);
    let replies = thread.close();
    assert_eq!(replies.len(), 1000);
    for (challenge, reply) in (0..).zip(replies) {
        assert!(matches!(reply, Reply::Claimed(ticket, Ok(Outcome::New)) if ticket == challenge));
    }
    let sizes: Vec<usize> = seen.seen.lock().unwrap().iter().map(|&(_, len)| len).collect();
    // What was there when the thread first looked, then full groups, then the rest; and the close.
    assert!(sizes.len() <= 5, "{sizes:?}");
    assert!(sizes.iter().all(|&len| len <= GROUP), "{sizes:?}");
}

#[test]
fn a_full_queue_gives_the_ticket_back_and_blocks_nobody() {
    let seen = Seen::default();
    let (open_gate, gate) = channel();
    let (thread, _wakes) = start(seen.store(Some(gate)));
    let mut taken = 0;
    let refused = loop {
        match thread.submit(record(NOON, taken), taken) {
            Ok(()) => taken += 1,
            Err(ticket) => break ticket,
        }
    };
    // First: a failed assertion would wait for the thread otherwise.
    drop(open_gate);
    assert_eq!(refused, taken);
    // One more than the queue: events have a place there.
    assert!((QUEUE..=QUEUE + 1 + GROUP).contains(&(taken as usize)), "{taken}");
    assert_eq!(thread.close().len(), taken as usize);
}

#[test]
fn forgetting_keeps_its_place_between_claims() {
    let seen = Seen::default();
    let (open_gate, gate) = channel();
    let (thread, _wakes) = start(seen.store(Some(gate)));
    thread.submit(record(NOON, 1), 1).unwrap();
    thread.forget(NOON + 1).unwrap();
    thread.submit(record(NOON, 1), 2).unwrap();
    drop(open_gate);
    let replies = thread.close();
    let [Reply::Claimed(1, Ok(first)), Reply::Forgotten(0), Reply::Claimed(2, Ok(second))] = replies[..]
    else {
        panic!("{replies:?}")
    };
    assert_eq!((first, second), (Outcome::New, Outcome::BelowFloor));
}

#[test]
fn a_failing_engine_is_reported_once_and_its_recovery_too() {
    let seen = Seen::default();
    let (thread, wakes) = start(seen.store(None));
    let mut said = Vec::new();
    let steps = [None, Some("full"), Some("full"), Some("gone"), None, None];
    for (challenge, failing) in (0..).zip(steps) {
        *seen.failing.lock().unwrap() = failing;
        thread.submit(record(NOON, challenge), challenge).unwrap();
        loop {
            match next(&thread, &wakes) {
                Reply::Claimed(ticket, result) => {
                    let expected = if failing.is_some() { Err(NotRecorded) } else { Ok(Outcome::New) };
                    assert_eq!((ticket, result), (challenge, expected));
                    break;
                }
                Reply::Failing(error) => said.push(error.what),
                Reply::Recovered { refused } => said.push(format!("recovered, {refused} refused")),
                Reply::Forgotten(_)
                | Reply::Kept(..)
                | Reply::KeptHook(..)
                | Reply::KeptKey(..)
                | Reply::Head(_)
                | Reply::FileFailing(_)
                | Reply::FileRecovered
                | Reply::FileBroken(_)
                | Reply::Missed(_) => panic!(),
            }
        }
    }
    assert_eq!(said, ["full", "gone", "recovered, 3 refused"]);
}

#[test]
fn a_close_that_fails_is_said() {
    let seen = Seen::default();
    *seen.failing.lock().unwrap() = Some("full");
    let (thread, _wakes) = start::<()>(seen.store(None));
    let replies = thread.close();
    assert!(matches!(&replies[..], [Reply::Failing(error)] if error.what == "full"), "{replies:?}");
}

#[test]
fn the_clock_is_read_for_each_transaction() {
    let seen = Seen::default();
    let (woken, wakes) = channel();
    let clock = Arc::new(AtomicU64::new(WALL));
    let hand = clock.clone();
    let wake = move || Sender::send(&woken, ()).unwrap_or_default();
    let thread = StoreThread::start(seen.store(None), move || hand.load(Ordering::SeqCst), wake).unwrap();
    for (challenge, wall) in [(1, WALL + 5), (2, WALL - 5)] {
        clock.store(wall, Ordering::SeqCst);
        thread.submit(record(NOON, challenge), ()).unwrap();
        next(&thread, &wakes);
    }
    assert_eq!(*seen.seen.lock().unwrap(), [(WALL + 5, 1), (WALL - 5, 1)]);
}

struct Broken(Arc<AtomicUsize>);

impl Store for Broken {
    fn claim(&mut self, _: u64, _: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("as a test wants it")
    }

    fn forget(&mut self, _: u64, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn keep(&mut self, _: u64, _: &[DoorRow]) -> Result<(), StoreError> {
        Ok(())
    }

    fn doors(&mut self, _: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        Ok(Vec::new())
    }

    fn keep_hooks(&mut self, _: u64, _: &[HookRow]) -> Result<(), StoreError> {
        Ok(())
    }

    fn hooks(&mut self, _: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
        Ok(Vec::new())
    }

    fn close(self: Box<Self>, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn a_thread_that_died_takes_no_more_claims() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (thread, wakes) = start(Box::new(Broken(calls.clone())));
    thread.submit(record(NOON, 1), 1).unwrap();
    // The thread drops its end of the wake when it is gone.
    assert!(wakes.recv_timeout(std::time::Duration::from_secs(20)).is_err());
    let refused = (0..QUEUE + 2).any(|_| thread.submit(record(NOON, 1), 2).is_err());
    assert!(refused);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(thread.close().is_empty());
}

#[test]
fn an_engine_that_answers_too_little_lets_nothing_run() {
    struct Short;
    impl Store for Short {
        fn claim(&mut self, _: u64, _: &[Record]) -> Result<Vec<Outcome>, StoreError> {
            Ok(Vec::new())
        }
        fn forget(&mut self, _: u64, _: u32) -> Result<u64, StoreError> {
            Ok(0)
        }
        fn keep(&mut self, _: u64, _: &[DoorRow]) -> Result<(), StoreError> {
            Ok(())
        }
        fn doors(&mut self, _: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
            Ok(Vec::new())
        }
        fn keep_hooks(&mut self, _: u64, _: &[HookRow]) -> Result<(), StoreError> {
            Ok(())
        }
        fn hooks(&mut self, _: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
            Ok(Vec::new())
        }
        fn close(self: Box<Self>, _: u64) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let (thread, wakes) = start(Box::new(Short));
    thread.submit(record(NOON, 1), ()).unwrap();
    assert!(matches!(next(&thread, &wakes), Reply::Claimed((), Err(NotRecorded))));
}

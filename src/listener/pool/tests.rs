#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::channel::{Lane, MESSAGE_MAX, Received};
use crate::listener::opener::Decrypt;
use crate::wire::UserId;
use crate::wire::rsa_key::MODULUS_MAX;

/// What the workers are at. Nobody gets past it while the gate is shut.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    shut: bool,
    plain: usize,
    stamped: usize,
    plain_most: usize,
    done: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, shut: bool) {
        self.state().shut = shut;
        self.changed.notify_all();
    }

    fn until(&self, what: &str, fits: impl Fn(&State) -> bool) -> State {
        let (state, timeout) =
            self.changed.wait_timeout_while(self.state(), PATIENCE * 10, |state| !fits(state)).unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}: {} done", state.done);
        *state
    }
}

/// Opens nothing, and says what it is at. Numbers of plain ones are even.
struct Fake(Arc<Gate>);

impl Decrypt for Fake {
    fn decrypt<'a>(&self, ciphertext: &[u8], _: &'a mut [u8; MODULUS_MAX]) -> Option<&'a [u8]> {
        // Otherwise it is the warm-up.
        let number = u64::from_be_bytes(ciphertext.try_into().ok()?);
        let mut state = self.0.state();
        let at = |state: &mut State, by: isize| {
            let of = if number.is_multiple_of(2) { &mut state.plain } else { &mut state.stamped };
            *of = of.checked_add_signed(by).unwrap();
            state.plain_most = state.plain_most.max(state.plain);
        };
        at(&mut state, 1);
        self.0.changed.notify_all();
        state = self.0.changed.wait_while(state, |state| state.shut).unwrap();
        at(&mut state, -1);
        state.done += 1;
        self.0.changed.notify_all();
        None
    }
}

/// A pool with a keeper's end that somebody empties, counting lanes.
struct Rig {
    pool: Pool,
    gate: Arc<Gate>,
    tally: Arc<Tally>,
    channel: Arc<Channel>,
    keeper: JoinHandle<(usize, usize)>,
    next: u64,
}

impl Rig {
    fn new(workers: u16, room: usize) -> Rig {
        let gate = Arc::new(Gate::default());
        let (keeper, channel) = Channel::pair().unwrap();
        let (channel, tally) = (Arc::new(channel), Arc::new(Tally::default()));
        let opener = Opener::with(Box::new(Fake(Arc::clone(&gate))));
        let pool = Pool::start(opener, Vec::new(), workers, room, &channel, &tally).unwrap();
        let keeper = std::thread::spawn(move || count(&keeper));
        Rig { pool, gate, tally, channel, keeper, next: 0 }
    }

    /// Queues one of that kind.
    fn offer(&mut self, plain: bool) {
        self.next += 1;
        let way =
            if plain { Way::Stranger } else { Way::Stamped(UserId((self.next % 7).try_into().unwrap())) };
        let number = self.next * 2 + u64::from(!plain);
        assert!(self.pool.offer(Sealed::sample(way, number), 0).is_none(), "there is room");
    }

    /// Plain and stamped ones that reached the keeper.
    fn finish(self) -> (usize, usize) {
        self.pool.finish();
        assert_eq!(self.tally.counts(crate::channel::Lanes::default()), crate::channel::Counts::ZERO);
        drop(self.channel);
        self.keeper.join().unwrap()
    }
}

fn count(keeper: &Channel) -> (usize, usize) {
    let (mut plain, mut stamped) = (0, 0);
    let mut buffer = [0; MESSAGE_MAX];
    loop {
        match keeper.receive(&mut buffer) {
            Received::Message(len, _) => match ToKeeper::decode(&buffer[..len]).unwrap() {
                ToKeeper::Opened(Opened { lane: Lane::Plain, .. }) => plain += 1,
                ToKeeper::Opened(Opened { lane: Lane::Stamped(_), .. }) => stamped += 1,
                other @ (ToKeeper::Ready | ToKeeper::Counts(_) | ToKeeper::Sources(_) | ToKeeper::Alive) => {
                    panic!("{other:?}")
                }
            },
            Received::Empty => std::thread::sleep(Duration::from_micros(100)),
            Received::End => return (plain, stamped),
        }
    }
}

#[test]
fn while_operations_are_short_plain_ones_never_have_more_than_half_of_the_workers() {
    for (workers, half) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut rig = Rig::new(workers, 100);
        rig.pool.set_supply(Supply::Short);
        rig.gate.set(true);
        (0..40).for_each(|_| rig.offer(true));
        rig.gate.until("half of them at plain ones", |state| state.plain == half);
        if usize::from(workers) > half {
            (0..5).for_each(|_| rig.offer(false));
            rig.gate
                .until("the others at stamped ones", |state| state.stamped == usize::from(workers) - half);
        }
        let stamped = if usize::from(workers) > half { 5 } else { 0 };
        rig.gate.set(false);
        let state = rig.gate.until("all of them", |state| state.done == 40 + stamped);
        assert_eq!(state.plain_most, half, "of {workers}");
        assert_eq!(rig.finish(), (40, stamped));
    }
}

#[test]
fn while_there_are_enough_plain_ones_have_all_of_them() {
    let mut rig = Rig::new(4, 100);
    rig.gate.set(true);
    (0..10).for_each(|_| rig.offer(true));
    rig.gate.until("all of them at plain ones", |state| state.plain == 4);
    // Short from here on: they finish what they are at, and two go on.
    rig.pool.set_supply(Supply::Short);
    rig.gate.set(false);
    assert_eq!(rig.finish(), (10, 0));
}

#[test]
fn what_waits_at_the_end_is_opened() {
    for supply in [Supply::Ample, Supply::Short] {
        let mut rig = Rig::new(4, 500);
        rig.pool.set_supply(supply);
        rig.gate.set(true);
        (0..600).for_each(|number| rig.offer(number % 2 == 0));
        let gate = Arc::clone(&rig.gate);
        let opening = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            gate.set(false);
        });
        assert_eq!(rig.finish(), (300, 300));
        opening.join().unwrap();
    }
}

#[test]
fn no_worker_sleeps_while_there_is_something_for_it() {
    let mut random = StdRng::seed_from_u64(11);
    for workers in [1, 2, 3] {
        let mut rig = Rig::new(workers, 100);
        let mut sent = 0;
        for _ in 0..2000 {
            rig.pool.set_supply(if random.random() { Supply::Ample } else { Supply::Short });
            let burst = random.random_range(1..6);
            (0..burst).for_each(|_| rig.offer(random.random()));
            sent += burst;
            // Now and then they go to sleep, now and then more comes while they fall asleep.
            if random.random_range(0..4) > 0 {
                rig.gate.until("all that was offered", |state| state.done == sent);
            } else if random.random() {
                std::thread::yield_now();
            }
            // Never more than there is room for.
            rig.gate.until("most of it", |state| state.done + 50 > sent);
        }
        rig.gate.until("the rest", |state| state.done == sent);
        let (plain, stamped) = rig.finish();
        assert_eq!(plain + stamped, sent);
    }
}

#[test]
fn a_keeper_that_is_gone_ends_the_workers() {
    let gate = Arc::new(Gate::default());
    let (keeper, channel) = Channel::pair().unwrap();
    let (channel, tally) = (Arc::new(channel), Arc::new(Tally::default()));
    let opener = Opener::with(Box::new(Fake(Arc::clone(&gate))));
    let pool = Pool::start(opener, Vec::new(), 2, 100, &channel, &tally).unwrap();
    gate.set(true);
    (0..10).for_each(|number| assert!(pool.offer(Sealed::sample(Way::Stranger, number * 2), 0).is_none()));
    drop(keeper);
    gate.set(false);
    pool.finish();
    let refused: u64 = tally.counts(crate::channel::Lanes::default()).refused.iter().sum();
    assert_eq!((refused, gate.state().done), (2, 2), "one for each worker, and nobody opens the rest");
}

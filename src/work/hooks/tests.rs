#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The queue, and what came out of it.
struct Queue {
    hooks: Hooks,
    /// The store.
    rows: BTreeMap<KnockId, String>,
    sent: Vec<u64>,
    told: Vec<(u64, Happening)>,
    /// Whether the store takes rows.
    store: Result<(), ()>,
}

fn at(seconds: u64) -> Now {
    Now { mono: secs(seconds), boot: secs(seconds), wall: secs(1_700_000_000 + seconds) }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(number: u64) -> KnockId {
    KnockId(number.to_be_bytes())
}

fn facts(number: u64, action: &str) -> Told {
    Told::Knock(Facts {
        id: id(number),
        time: 1_700_000_000 + number,
        server: None,
        user: "alice".to_owned(),
        action: action.to_owned(),
        source: "192.0.2.7".parse().unwrap(),
        opens_for: None,
        outcome: Outcome::Exited { code: 0 },
        until: None,
    })
}

fn later() -> Sent {
    Sent::Later("no route".to_owned())
}

impl Queue {
    fn new() -> Queue {
        Queue {
            hooks: Hooks::default(),
            rows: BTreeMap::new(),
            sent: Vec::new(),
            told: Vec::new(),
            store: Ok(()),
        }
    }

    /// Another process takes over the store.
    fn restarted(self, now: Now) -> Queue {
        let mut hooks = Hooks::default();
        hooks.recover(now, self.rows.clone());
        let mut queue = Queue { hooks, sent: Vec::new(), told: Vec::new(), ..self };
        queue.drain(now);
        queue
    }

    fn ended(&mut self, now: Now, number: u64, action: &str) {
        self.hooks.ended(now, facts(number, action));
        self.drain(now);
    }

    fn answer(&mut self, now: Now, number: u64, how: Sent) {
        self.hooks.sent(now, id(number), how);
        self.drain(now);
    }

    fn due(&mut self, now: Now) {
        self.hooks.due(now);
        self.drain(now);
    }

    fn drain(&mut self, now: Now) {
        while let Some(command) = self.hooks.command() {
            match command {
                Command::Keep(HookRow { id, record }) => {
                    if self.store.is_ok() {
                        match record {
                            Some(record) => self.rows.insert(id, record),
                            None => self.rows.remove(&id),
                        };
                    }
                    self.hooks.kept(now, id, self.store);
                }
                Command::Send(told) => self.sent.push(u64::from_be_bytes(told.id().0)),
                Command::Tell(note) => self.told.push((u64::from_be_bytes(note.id.0), note.what)),
            }
        }
    }

    fn state(&self, number: u64) -> Option<State> {
        Some(Record::parse(self.rows.get(&id(number))?).unwrap().state)
    }
}

#[test]
fn a_webhook_is_sent_once_and_nothing_of_it_is_left() {
    let mut queue = Queue::new();
    queue.hooks.began(facts(1, "ssh"));
    queue.drain(at(0));
    assert_eq!((queue.sent.len(), queue.state(1)), (0, Some(State::Running)));
    queue.ended(at(1), 1, "ssh");
    assert_eq!((queue.sent.clone(), queue.state(1)), (vec![1], Some(State::Pending(1_700_000_001))));
    assert_eq!(queue.hooks.next_deadline(), None);
    queue.answer(at(2), 1, Sent::Well);
    assert_eq!((queue.rows.len(), queue.hooks.len()), (0, 0));
    assert_eq!(queue.told, [(1, Happening::Sent)]);
}

#[test]
fn what_does_not_get_through_is_tried_again_ever_later_and_then_kept_for_the_administrator() {
    let mut queue = Queue::new();
    queue.ended(at(0), 1, "ssh");
    let mut now = 0;
    for (attempt, wait) in DELAYS.into_iter().enumerate() {
        assert_eq!(queue.sent.len(), attempt + 1);
        queue.answer(at(now), 1, later());
        assert_eq!(queue.told.last(), Some(&(1, Happening::Retry(secs(wait), "no route".to_owned()))));
        assert_eq!(queue.hooks.next_deadline(), Some(secs(now + wait)));
        queue.due(at(now + wait - 1));
        assert_eq!(queue.sent.len(), attempt + 1, "too early");
        now += wait;
        queue.due(at(now));
    }
    queue.answer(at(now), 1, later());
    assert_eq!(queue.told.last(), Some(&(1, Happening::Failed("no route".to_owned()))));
    assert_eq!((queue.state(1), queue.hooks.next_deadline()), (Some(State::Failed), None));
    let mut queue = queue.restarted(at(now));
    assert_eq!((queue.sent.len(), queue.hooks.len()), (0, 1), "tried again unasked");
    assert_eq!(queue.hooks.retry(at(now), Which::Failed), 1);
    queue.drain(at(now));
    assert_eq!(queue.sent, [1]);
    // From the start again.
    queue.answer(at(now), 1, later());
    assert_eq!(queue.told, [(1, Happening::Retry(secs(10), "no route".to_owned()))]);
}

#[test]
fn what_can_never_get_through_is_not_tried_again() {
    let mut queue = Queue::new();
    queue.ended(at(0), 1, "ssh");
    queue.answer(at(0), 1, Sent::Never("404".to_owned()));
    assert_eq!(queue.told, [(1, Happening::Failed("404".to_owned()))]);
    assert_eq!((queue.state(1), queue.hooks.next_deadline()), (Some(State::Failed), None));
}

#[test]
fn one_is_sent_at_a_time_for_each_action_and_a_few_overall() {
    let mut queue = Queue::new();
    for (number, action) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "e")] {
        queue.ended(at(0), number, action);
    }
    assert_eq!(queue.sent, [1, 3, 4, 5]);
    assert_eq!(queue.hooks.next_deadline(), None, "it would spin");
    queue.answer(at(1), 3, Sent::Well);
    assert_eq!(queue.sent, [1, 3, 4, 5, 6], "an action has its turn");
    queue.answer(at(1), 1, later());
    assert_eq!(queue.sent, [1, 3, 4, 5, 6], "a receiver that is down has a pause");
    assert_eq!(queue.hooks.next_deadline(), Some(secs(2)));
    queue.due(at(2));
    assert_eq!(queue.sent, [1, 3, 4, 5, 6, 2], "what waits for its next attempt holds nobody up");
    queue.answer(at(2), 2, later());
    assert_eq!(queue.hooks.retry(at(2), Which::Hook(id(2))), 1);
    queue.drain(at(2));
    assert_eq!(queue.sent.last(), Some(&2), "who is asked for now has none");
}

#[test]
fn after_a_kill_what_waits_is_sent_and_of_what_ran_nobody_knows_the_outcome() {
    let mut queue = Queue::new();
    let Told::Knock(known) = facts(1, "a") else { unreachable!() };
    queue.hooks.began(Told::Knock(Facts { outcome: Outcome::Unknown, ..known }));
    queue.ended(at(0), 2, "b");
    queue.ended(at(0), 3, "c");
    queue.answer(at(0), 3, later());
    let mut queue = queue.restarted(at(4));
    assert_eq!(queue.sent, [1, 2], "the third has its time");
    assert_eq!(queue.hooks.next_deadline(), Some(secs(10)));
    queue.due(at(10));
    assert_eq!(queue.sent, [1, 2, 3]);
    let record = Record::parse(&queue.rows[&id(1)]).unwrap();
    let Told::Knock(facts) = record.facts else { panic!("{record:?}") };
    assert_eq!(facts.outcome, Outcome::Unknown);
}

#[test]
fn heads_of_the_trail_wait_behind_each_other_and_for_no_action() {
    let mut queue = Queue::new();
    let head = |number| {
        let head = format!("{number}:{}", "ab".repeat(32));
        Told::Head(HeadFacts {
            id: id(number),
            time: 1_700_000_000 + number,
            server: None,
            head,
            key: "cd".repeat(32),
        })
    };
    queue.ended(at(0), 1, "a");
    for number in [2, 3] {
        queue.hooks.ended(at(0), head(number));
        queue.drain(at(0));
    }
    assert_eq!(queue.sent, [1, 2], "one at a time of each owner");
    let mut queue = queue.restarted(at(1));
    assert_eq!(queue.sent, [1, 2]);
    queue.answer(at(1), 2, Sent::Well);
    assert_eq!((queue.sent.last(), queue.state(2)), (Some(&3), None));
}

#[test]
fn a_clock_that_stepped_back_holds_nothing_up_for_longer() {
    let mut queue = Queue::new();
    queue.ended(at(1_000_000), 1, "a");
    queue.answer(at(1_000_000), 1, later());
    let queue = queue.restarted(at(5));
    assert_eq!(queue.hooks.next_deadline(), Some(secs(15)));
}

#[test]
fn there_is_room_for_so_many_and_what_failed_longest_ago_goes_first() {
    let mut queue = Queue::new();
    for number in 1..=2 {
        queue.ended(at(0), number, "a");
        queue.answer(at(0), number, Sent::Never("404".to_owned()));
    }
    let most = u64::try_from(MAX).unwrap();
    for number in 3..=most + 3 {
        queue.ended(at(0), number, "a");
    }
    let lost: Vec<_> = queue
        .told
        .iter()
        .filter_map(|(number, what)| match what {
            Happening::Lost(count) => Some((*number, *count)),
            Happening::Sent | Happening::Retry(..) | Happening::Failed(_) => None,
        })
        .collect();
    // The third is being sent.
    assert_eq!(lost, [(1, 1), (2, 2), (4, 3)]);
    assert_eq!((queue.rows.len(), queue.hooks.len()), (MAX, MAX));
}

#[test]
fn a_row_that_could_not_be_written_is_written_again() {
    let mut queue = Queue::new();
    queue.store = Err(());
    queue.ended(at(0), 1, "a");
    queue.ended(at(0), 2, "b");
    queue.answer(at(0), 2, Sent::Well);
    assert_eq!(queue.hooks.next_deadline(), Some(secs(10)));
    queue.due(at(10));
    assert_eq!(queue.hooks.next_deadline(), Some(secs(20)));
    queue.store = Ok(());
    queue.rows.insert(id(2), "to be removed".to_owned());
    queue.due(at(20));
    assert_eq!(queue.rows.keys().copied().collect::<Vec<_>>(), [id(1)]);
    assert_eq!(queue.hooks.next_deadline(), None);
}

#[test]
fn what_is_dropped_is_gone_and_what_is_being_sent_is_left_alone() {
    let mut queue = Queue::new();
    for number in 1..=3 {
        queue.ended(at(0), number, "a");
    }
    assert_eq!(queue.hooks.forget(Which::Hook(id(1))), 0, "it is being sent");
    assert_eq!(queue.hooks.retry(at(0), Which::Hook(id(9))), 0);
    assert_eq!(queue.hooks.forget(Which::Failed), 0);
    assert_eq!(queue.hooks.forget(Which::Hook(id(2))), 1);
    queue.drain(at(0));
    queue.answer(at(0), 1, Sent::Never("404".to_owned()));
    queue.answer(at(0), 3, Sent::Never("404".to_owned()));
    assert_eq!(queue.hooks.forget(Which::Failed), 2);
    queue.drain(at(0));
    assert_eq!((queue.rows.len(), queue.sent.as_slice()), (0, &[1, 3][..]));
}

#[test]
fn nothing_is_sent_while_the_daemon_stops_and_all_of_it_is_kept() {
    let mut queue = Queue::new();
    queue.hooks.stop();
    queue.ended(at(0), 1, "a");
    assert_eq!((queue.sent.len(), queue.rows.len(), queue.hooks.next_deadline()), (0, 1, None));
}

#[test]
fn a_row_that_cannot_be_read_is_thrown_away() {
    let mut queue = Queue::new();
    queue.rows.insert(id(1), "nonsense".to_owned());
    let queue = queue.restarted(at(0));
    assert_eq!((queue.rows.len(), queue.hooks.len()), (0, 0));
}

proptest! {
    /// Whatever comes, each webhook is delivered, failed or still known, the store says the same as the queue, and no more
    /// are sent at once than may be.
    #[test]
    fn nothing_is_forgotten_over_failures_kills_and_retries(ops in prop::collection::vec((0_u8..7, 0_u64..6), 1..60)) {
        let mut queue = Queue::new();
        let (mut now, mut next, mut open) = (0, 0, BTreeMap::new());
        let mut senders: BTreeSet<u64> = BTreeSet::new();
        for (op, arg) in ops {
            now += arg * arg;
            match op {
                0 | 1 => {
                    next += 1;
                    open.insert(next, format!("action{}", arg % 6));
                    queue.ended(at(now), next, &format!("action{}", arg % 6));
                }
                2 | 3 => if let Some(number) = senders.iter().nth(usize::try_from(arg).unwrap()).copied() {
                    senders.remove(&number);
                    let how = match arg {
                        0 | 1 => Sent::Well,
                        2 | 3 => later(),
                        _ => Sent::Never("404".to_owned()),
                    };
                    if how == Sent::Well {
                        open.remove(&number);
                    }
                    queue.answer(at(now), number, how);
                },
                4 => {
                    senders.clear();
                    queue = queue.restarted(at(now));
                }
                5 => {
                    queue.hooks.retry(at(now), Which::Failed);
                    queue.drain(at(now));
                }
                _ => queue.due(at(now)),
            }
            for number in std::mem::take(&mut queue.sent) {
                prop_assert!(senders.insert(number), "sent twice at once");
            }
            let actions: BTreeSet<&str> = senders.iter().map(|number| open[number].as_str()).collect();
            prop_assert!(actions.len() == senders.len() && senders.len() <= SENDERS);
            prop_assert_eq!(queue.rows.keys().copied().collect::<Vec<_>>(), open.keys().map(|number| id(*number)).collect::<Vec<_>>());
            // What is due and has a sender to itself is under way: the loop never spins.
            prop_assert!(queue.hooks.next_deadline().is_none_or(|at| at > secs(now)) || op != 6);
        }
    }
}

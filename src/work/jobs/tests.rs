#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use proptest::prelude::*;

use super::*;
use crate::work::testing;

const SECOND: Duration = Duration::from_secs(1);

fn job(id: u8, max_running: usize, on_busy: OnBusy) -> Job {
    let mut action = testing::action(id, "open");
    action.max_running = max_running;
    action.on_busy = on_busy;
    action.timeout = 10 * SECOND;
    action.grace = 2 * SECOND;
    testing::job(action, b"")
}

/// Admits a job and starts it; `None` if it may not start.
fn run(jobs: &mut Jobs, now: Duration, job: Job) -> Option<Slot> {
    let Admit::Start(job) = jobs.admit(job) else {
        return None;
    };
    Some(begin(jobs, now, &job))
}

fn begin(jobs: &mut Jobs, now: Duration, job: &Job) -> Slot {
    let slot = jobs.free_slot();
    jobs.started(now, job);
    slot
}

#[test]
fn a_job_above_max_running_is_refused_until_one_ends() {
    let mut jobs = Jobs::new(10);
    let first = run(&mut jobs, SECOND, job(1, 2, OnBusy::Refuse)).unwrap();
    run(&mut jobs, SECOND, job(1, 2, OnBusy::Refuse)).unwrap();
    assert!(matches!(jobs.admit(job(1, 2, OnBusy::Refuse)), Admit::Refuse(StartError::Busy)));
    assert!(matches!(jobs.admit(job(2, 1, OnBusy::Refuse)), Admit::Start(_)), "another action");
    jobs.ended(first);
    assert!(matches!(jobs.admit(job(1, 2, OnBusy::Refuse)), Admit::Start(_)));
}

#[test]
fn max_jobs_holds_over_all_actions_and_a_reload_can_change_it() {
    let mut jobs = Jobs::new(1);
    run(&mut jobs, SECOND, job(1, 5, OnBusy::Refuse)).unwrap();
    assert!(matches!(jobs.admit(job(2, 5, OnBusy::Refuse)), Admit::Refuse(StartError::Busy)));
    jobs.set_max(2);
    assert!(matches!(jobs.admit(job(2, 5, OnBusy::Refuse)), Admit::Start(_)));
}

#[test]
fn an_overdue_job_is_told_to_end_then_ended_and_then_left_alone() {
    let mut jobs = Jobs::new(1);
    let slot = run(&mut jobs, SECOND, job(1, 1, OnBusy::Refuse)).unwrap();
    assert_eq!(jobs.next_deadline(), Some(11 * SECOND));
    assert_eq!(jobs.due(10 * SECOND), None);
    assert_eq!(jobs.due(11 * SECOND), Some((slot, Order::Terminate)));
    assert_eq!(jobs.due(12 * SECOND), None);
    assert_eq!(jobs.next_deadline(), Some(13 * SECOND));
    assert_eq!(jobs.due(13 * SECOND), Some((slot, Order::Kill)));
    assert_eq!(jobs.phase(slot), Some(Phase::Killed));
    assert_eq!((jobs.due(99 * SECOND), jobs.next_deadline()), (None, None));
}

#[test]
fn a_late_wake_takes_nobody_s_grace() {
    let mut jobs = Jobs::new(1);
    let slot = run(&mut jobs, SECOND, job(1, 1, OnBusy::Refuse)).unwrap();
    assert_eq!(jobs.due(100 * SECOND), Some((slot, Order::Terminate)));
    assert_eq!(jobs.due(100 * SECOND), None);
    assert_eq!(jobs.next_deadline(), Some(102 * SECOND));
}

#[test]
fn a_queued_job_waits_its_turn_and_is_not_overtaken() {
    let mut jobs = Jobs::new(10);
    let first = run(&mut jobs, SECOND, job(1, 1, OnBusy::Queue(1))).unwrap();
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Queue(1))), Admit::Wait));
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Queue(1))), Admit::Refuse(StartError::Busy)));
    assert!(jobs.next_waiting().is_none(), "no room yet");
    jobs.ended(first);
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Refuse)), Admit::Refuse(StartError::Busy)), "overtaking");
    assert!(jobs.next_waiting().is_some());
    assert_eq!((jobs.running(), jobs.waiting()), (0, 0));
}

#[test]
fn a_waiting_job_without_room_does_not_hold_up_another_action() {
    let mut jobs = Jobs::new(10);
    let one = run(&mut jobs, SECOND, job(1, 1, OnBusy::Queue(9))).unwrap();
    let two = run(&mut jobs, SECOND, job(2, 1, OnBusy::Queue(9))).unwrap();
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Queue(9))), Admit::Wait));
    assert!(matches!(jobs.admit(job(2, 1, OnBusy::Queue(9))), Admit::Wait));
    jobs.ended(two);
    assert_eq!(jobs.next_waiting().unwrap().limited_by().unwrap().id.number(), 2);
    jobs.ended(one);
    assert_eq!(jobs.next_waiting().unwrap().limited_by().unwrap().id.number(), 1);
}

#[test]
fn a_stop_refuses_what_waits_and_leaves_what_runs_its_deadline() {
    let mut jobs = Jobs::new(1);
    let slot = run(&mut jobs, SECOND, job(1, 1, OnBusy::Queue(9))).unwrap();
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Queue(9))), Admit::Wait));
    assert_eq!(jobs.stop().count(), 1);
    assert!(matches!(jobs.admit(job(1, 1, OnBusy::Queue(9))), Admit::Refuse(StartError::Stopping)));
    assert_eq!(jobs.next_deadline(), Some(11 * SECOND));
    jobs.ended(slot);
    assert_eq!((jobs.running(), jobs.waiting()), (0, 0));
}

#[test]
fn what_undoes_something_is_held_up_by_its_kind_alone_and_starts_while_the_daemon_stops() {
    let mut jobs = Jobs::new(1);
    run(&mut jobs, SECOND, job(1, 1, OnBusy::Refuse)).unwrap();
    let slot = run(&mut jobs, SECOND, testing::undo()).unwrap();
    assert!(matches!(jobs.admit(testing::undo()), Admit::Wait));
    assert_eq!(jobs.stop().count(), 0);
    assert!(matches!(jobs.admit(testing::undo()), Admit::Wait));
    assert!(jobs.next_waiting().is_none(), "no room yet");
    assert_eq!((jobs.running(), jobs.waiting()), (2, 2));
    jobs.ended(slot);
    assert!(jobs.next_waiting().is_some());
    assert_eq!(jobs.waiting(), 1);
}

#[test]
fn what_undoes_something_takes_no_place_of_what_is_knocked_for() {
    let mut jobs = Jobs::new(1);
    run(&mut jobs, SECOND, testing::undo()).unwrap();
    assert!(run(&mut jobs, SECOND, job(1, 1, OnBusy::Refuse)).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Knock { action: u8, on_busy: OnBusy },
    End { which: usize },
    Pass { millis: u64 },
    SetMax { max: usize },
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let on_busy = prop_oneof![Just(OnBusy::Refuse), (0_usize..4).prop_map(OnBusy::Queue)];
    prop_oneof![
        8 => (1_u8..4, on_busy).prop_map(|(action, on_busy)| Step::Knock { action, on_busy }),
        4 => any::<usize>().prop_map(|which| Step::End { which }),
        6 => (0_u64..8000).prop_map(|millis| Step::Pass { millis }),
        1 => (1_usize..6).prop_map(|max| Step::SetMax { max }),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn every_job_starts_or_is_refused_once_within_the_limits_and_is_ended_on_time(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        const MAX_RUNNING: usize = 2;
        let mut jobs = Jobs::new(4);
        let mut now = Duration::ZERO;
        // The naive account: who runs since when, and which orders he had.
        let mut account: BTreeMap<Slot, (u8, Duration, Vec<Order>)> = BTreeMap::new();
        let (mut max, mut knocks, mut started, mut refused) = (4, 0, 0, 0);
        let mut ready = Vec::new();
        for step in steps {
            match step {
                Step::Knock { action, on_busy } => {
                    knocks += 1;
                    match jobs.admit(job(action, MAX_RUNNING, on_busy)) {
                        Admit::Start(job) => ready.push(job),
                        Admit::Wait => {}
                        Admit::Refuse(..) => refused += 1,
                    }
                }
                Step::End { which } => {
                    if let Some(slot) = account.keys().nth(which % account.len().max(1)).copied() {
                        account.remove(&slot);
                        jobs.ended(slot);
                    }
                }
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::SetMax { max: new } => {
                    max = new;
                    jobs.set_max(new);
                }
                Step::Stop => refused += jobs.stop().count(),
            }
            while let Some(job) = ready.pop().or_else(|| jobs.next_waiting()) {
                let same = account.values().filter(|(id, ..)| *id == job.limited_by().unwrap().id.number()).count();
                prop_assert!(same < MAX_RUNNING && account.len() < max);
                let slot = begin(&mut jobs, now, &job);
                prop_assert!(slot.0 < 6, "slots stay below the most that ever ran");
                prop_assert!(account.insert(slot, (job.limited_by().unwrap().id.number(), now, vec![])).is_none());
                started += 1;
            }
            while let Some((slot, order)) = jobs.due(now) {
                account.get_mut(&slot).unwrap().2.push(order);
            }
            for (_, since, orders) in account.values() {
                let age = now - *since;
                prop_assert!(orders.is_empty() == (age < 10 * SECOND));
                prop_assert!(orders.len() < 2 || (age >= 12 * SECOND && orders[..] == [Order::Terminate, Order::Kill]));
            }
            prop_assert!(jobs.next_deadline().is_none_or(|at| at > now));
            prop_assert_eq!(jobs.running(), account.len());
            prop_assert_eq!(knocks, started + refused + jobs.waiting());
        }
        // Whatever happened, everybody is ended in the end.
        while let Some(at) = jobs.next_deadline() {
            prop_assert!(jobs.due(at).is_some());
        }
        prop_assert!(account.keys().all(|slot| jobs.phase(*slot) == Some(Phase::Killed)));
    }
}

#[test]
fn a_webhook_takes_nobodys_room_and_holds_up_no_stop() {
    let mut jobs = Jobs::new(1);
    let senders: Vec<Slot> = (0..4).map(|_| run(&mut jobs, SECOND, testing::sender()).unwrap()).collect();
    assert_eq!((jobs.running(), jobs.waiting()), (0, 0), "somebody would wait for it");
    let script = run(&mut jobs, SECOND, job(1, 1, OnBusy::Refuse)).unwrap();
    assert!(!senders.contains(&script));
    run(&mut jobs, SECOND, testing::undo()).unwrap();
    jobs.ended(senders[0]);
    assert!(run(&mut jobs, SECOND, testing::sender()).is_some(), "max_jobs is not for it");
    assert_eq!(jobs.stop().count(), 0);
    assert!(matches!(jobs.admit(testing::sender()), Admit::Refuse(StartError::Stopping)));
}

#[test]
fn what_a_job_reads_is_not_printed() {
    let printed = format!("{:?}", testing::sender());
    assert!(printed.contains("--webhook") && !printed.contains("115, 101"), "{printed}");
}

//! Doors of nftables: what the kernel is told.

use super::*;

/// A door that alice has opened for a minute.
fn opened() -> (Bench, Action) {
    let (mut bench, door) = (Bench::new(), testing::nft_door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(0), Ran::Well);
    assert_eq!(bench.seen(), ["run"]);
    (bench, door)
}

#[test]
fn the_kernel_is_told_the_latest_end_whenever_it_moves() {
    let (mut bench, door) = opened();
    bench.due(at(1));
    assert_eq!(bench.seen(), [""; 0], "it knows");
    assert!(matches!(bench.knock(at(10), &door, "bob", Some(300)), Begun::Held));
    bench.due(at(10));
    assert_eq!(bench.seen(), ["renewal 300"]);
    assert!(matches!(bench.knock(at(20), &door, "bob", Some(600)), Begun::Held));
    bench.due(at(20));
    assert_eq!(bench.seen(), [""; 0], "one at a time");
    bench.renewed(at(20), Ran::Well);
    bench.due(at(20));
    assert_eq!(bench.seen(), ["renewal 600"]);
    bench.renewed(at(21), Ran::Well);
    assert_eq!(bench.leases.release(&key(), "bob"), 1);
    bench.due(at(30));
    assert_eq!(bench.seen(), ["bob released", "renewal 30"], "sooner, too");
}

#[test]
fn a_kernel_that_cannot_be_told_is_told_again_with_growing_pauses() {
    let (mut bench, door) = opened();
    assert!(matches!(bench.knock(at(10), &door, "alice", Some(600)), Begun::Held));
    bench.due(at(10));
    bench.renewed(at(10), Ran::Failed);
    assert_eq!(bench.leases.next_deadline(), Some(at(11).boot));
    bench.due(at(11));
    bench.renewed(at(11), Ran::Failed);
    bench.due(at(12));
    bench.due(at(13));
    bench.renewed(at(13), Ran::Well);
    assert_eq!(
        bench.seen(),
        ["renewal 600", "renewal failed 1 Loud", "renewal 599", "renewal failed 2 Loud", "renewal 597"]
    );
}

#[test]
fn a_door_closes_only_behind_what_would_open_it_anew() {
    let (mut bench, door) = opened();
    assert!(matches!(bench.knock(at(10), &door, "alice", Some(100)), Begun::Held));
    bench.due(at(10));
    bench.leases.revoke(&Whom::All);
    bench.due(at(11));
    assert_eq!(bench.seen(), ["renewal 100", "alice revoked"]);
    bench.renewed(at(12), Ran::Well);
    assert_eq!(bench.seen(), ["undo revoked 1"]);
}

#[test]
fn after_a_start_and_a_reload_the_kernel_is_told_of_each_door_again() {
    let (bench, _) = opened();
    let mut bench = bench.killed(at(20), BOOT);
    assert_eq!(bench.seen(), ["renewal 40"]);
    bench.renewed(at(20), Ran::Well);
    bench.leases.renew();
    bench.due(at(30));
    assert_eq!(bench.seen(), ["renewal 30"]);
}

#[test]
fn what_cannot_be_undone_is_never_taken_for_closed() {
    let (bench, _) = opened();
    let later = Now { boot: at(0).boot / 2, ..at(100) };
    let mut bench = bench.killed(later, "another boot");
    assert_eq!(bench.seen(), ["alice expired", "undo expired 1"]);
    bench.undone(later, Undone::Failed);
    assert_eq!(bench.seen(), ["failed 1 Loud"]);
    assert!(!bench.leases.is_empty() && !bench.disk.is_empty());
}

#[test]
fn nft_is_given_the_address_and_what_is_left_by_then() {
    let (mut bench, door) = (Bench::new(), testing::nft_door(Again::Extend));
    let mut batches = Vec::new();
    let mut take = |leases: &mut Leases, now: Now| {
        while let Some(command) = leases.command() {
            match command {
                Command::Keep(row) => leases.kept(now, &row.key, Ok::<(), ()>(())),
                Command::Start(job) => {
                    batches.push(String::from_utf8(job.stdin().unwrap().to_vec()).unwrap())
                }
                Command::Refuse(..) | Command::Tell(_) => {}
            }
        }
    };
    drop(bench.leases.begin(at(0), testing::opening(&door, "alice", 7, 1, None)));
    // Bob comes while the store writes.
    drop(bench.leases.begin(at(1), testing::opening(&door, "bob", 7, 2, Some(120))));
    take(&mut bench.leases, at(2));
    bench.leases.ran(&key(), Ran::Well);
    bench.leases.revoke(&Whom::All);
    take(&mut bench.leases, at(3));
    assert_eq!(batches.len(), 2, "{batches:?}");
    assert_eq!(batches[0].matches("\"timeout\":119,\"val\":\"192.0.2.7\"").count(), 2, "{}", batches[0]);
    assert!(batches[1].contains("{\"delete\":{\"element\":{\"elem\":[\"192.0.2.7\"]"), "{}", batches[1]);
}

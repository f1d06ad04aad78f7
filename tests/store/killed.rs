//! kill -9 at every step: what ran once does not run again.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use siglatch::store::hooks::HookRow;
use siglatch::store::sqlite::read_hooks;
use siglatch::store::thread::Reply;
use siglatch::store::usage::{Terms, Window};
use siglatch::store::{Boot, Outcome, Record, SqliteStore, StoreThread, Use, Used};
use siglatch::wire::{ActionId, KnockId, UserId};

use super::{NOON, WALL, made, record};

const KNOCKS: &str = "killed::knocks";
const USES: &str = "killed::uses";
const HOOKS: &str = "killed::hooks";

/// In the order in which a process meets them.
const STEPS: [&str; 15] = [
    "store-open-before",
    "store-open-before-commit",
    "store-open-after-commit",
    "store-claim-before",
    "store-claim-before-commit",
    "store-claim-after-commit",
    "store-claim-before-reply",
    "store-reserve-before-commit",
    "store-reserve-after-commit",
    "store-forget-before",
    "store-forget-before-commit",
    "store-forget-after-commit",
    "store-close-before",
    "store-close-before-commit",
    "store-close-after-commit",
];

/// Runs [`knocks`] in a process that is killed at `step`; returns what ran there.
#[expect(clippy::disallowed_methods, reason = "a process to kill is needed")]
fn process(test: &str, folder: &Path, from: u32, step: Option<&str>) -> (BTreeSet<u32>, ExitStatus) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env("STORE_FOLDER", folder).env("STORE_FROM", from.to_string());
    match step {
        Some(step) => command.env("SIGLATCH_CRASH_AT", step),
        None => command.env_remove("SIGLATCH_CRASH_AT"),
    };
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ran = text.split_whitespace().filter_map(|word| word.strip_prefix("ran:")?.parse().ok()).collect();
    (ran, output.status)
}

/// Not a test: what [`process`] runs. Claims 30 knocks, some ahead of the clock, forgets some, closes.
#[test]
fn knocks() {
    let Some(folder) = std::env::var_os("STORE_FOLDER").map(PathBuf::from) else {
        return;
    };
    let from: u32 = std::env::var("STORE_FROM").unwrap().parse().unwrap();
    let (store, _) = SqliteStore::open(&folder, 1000, WALL, &Boot::read(WALL)).unwrap();
    let (woken, wakes) = std::sync::mpsc::channel();
    let wake = move || woken.send(()).unwrap_or_default();
    let thread = StoreThread::start(Box::new(store), || WALL, wake).unwrap();
    for challenge in from..from + 30 {
        thread.submit(record(NOON - 15 + challenge % 30, challenge), challenge).unwrap();
        if challenge % 30 == 20 {
            thread.forget(NOON - 10 + from / 10).unwrap();
        }
        wakes.recv_timeout(std::time::Duration::from_millis(100)).ok();
        while let Some(reply) = thread.try_recv() {
            run(&reply);
        }
    }
    thread.close().iter().for_each(run);
}

fn run(reply: &Reply<u32>) {
    if let Reply::Claimed(challenge, Ok(Outcome::New)) = reply {
        println!(" ran:{challenge} ");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_ran_before_a_kill_at_any_step_does_not_run_again() {
    for step in STEPS {
        let made = made();
        let (before, status) = process(KNOCKS, &made.folder, 0, None);
        assert!(status.success());
        assert_eq!(before.len(), 30);
        // A second lot: its process is killed while the first lot's claims are there.
        let (killed, status) = process(KNOCKS, &made.folder, 30, Some(step));
        assert_eq!(status.signal(), Some(9), "{step} is never reached");
        let (after, status) = process(KNOCKS, &made.folder, 30, None);
        assert!(status.success(), "{step}");
        assert!(killed.is_disjoint(&after), "{step}: {killed:?} {after:?}");
        let (replayed, status) = process(KNOCKS, &made.folder, 0, None);
        assert!(status.success(), "{step}");
        assert!(replayed.is_disjoint(&before), "{step}: {replayed:?}");
    }
}

#[test]
fn a_kill_while_the_store_is_made_leaves_one_that_can_be_opened() {
    for step in &STEPS[..3] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("state");
        let (killed, status) = process(KNOCKS, &folder, 0, Some(step));
        assert_eq!((killed.len(), status.signal()), (0, Some(9)), "{step}");
        let (ran, status) = process(KNOCKS, &folder, 0, None);
        assert!(status.success(), "{step}");
        // The floor of a new file is the clock: only what is ahead of it ran.
        assert_eq!(ran, (16..30).collect(), "{step}");
    }
}

/// Not a test: what [`process`] runs. Knocks ten times for what may be used five times, gives the third one back, closes.
#[test]
fn uses() {
    let Some(folder) = std::env::var_os("STORE_FOLDER").map(PathBuf::from) else {
        return;
    };
    let from: u32 = std::env::var("STORE_FROM").unwrap().parse().unwrap();
    let (store, _) = SqliteStore::open(&folder, 1000, WALL, &Boot::read(WALL)).unwrap();
    let (woken, wakes) = std::sync::mpsc::channel();
    let wake = move || woken.send(()).unwrap_or_default();
    let thread = StoreThread::start(Box::new(store), || WALL, wake).unwrap();
    let quota = Window { most: 5, since: NOON - 900, until: NOON + 900 };
    let of_action = Terms { cooldown: None, quota: Some(quota) };
    let action = ActionId::new(1).unwrap();
    let using = Some(Use {
        at: NOON,
        action,
        of_action,
        of_user: Terms::default(),
        most: None,
        code: None,
        family: None,
    });
    for challenge in from..from + 10 {
        thread.submit(Record { using, ..record(NOON + 1, challenge) }, challenge).unwrap();
        wakes.recv_timeout(std::time::Duration::from_millis(100)).ok();
        while let Some(reply) = thread.try_recv() {
            run(&reply);
        }
        if challenge == from + 2 {
            thread.give_back(Used { user: UserId(1), action, at: NOON }).unwrap();
        }
    }
    thread.close().iter().for_each(run);
}

#[test]
fn what_was_used_before_a_kill_at_any_step_stays_used() {
    const GIVEN_BACK: [&str; 3] =
        ["store-give-back-before", "store-give-back-before-commit", "store-give-back-after-commit"];
    let claims = STEPS.iter().filter(|step| step.starts_with("store-claim"));
    for step in claims.chain(&GIVEN_BACK) {
        let made = made();
        let (killed, status) = process(USES, &made.folder, 0, Some(step));
        assert_eq!(status.signal(), Some(9), "{step} is never reached");
        let (after, status) = process(USES, &made.folder, 100, None);
        assert!(status.success(), "{step}");
        let (at_last, status) = process(USES, &made.folder, 200, None);
        assert!(status.success(), "{step}");
        // Each process gives one back; one that was killed may not have come so far.
        let ran = killed.len() + after.len() + at_last.len();
        assert!((5..=5 + 3).contains(&ran), "{step}: {killed:?} {after:?} {at_last:?}");
        assert!(killed.len() <= 3 || GIVEN_BACK.contains(step), "{step}: {killed:?}");
    }
}

/// Not a test: what [`process`] runs. Keeps ten webhooks, one after the other, each after the one before it was kept, and
/// takes the first away at the end.
#[test]
fn hooks() {
    let Some(folder) = std::env::var_os("STORE_FOLDER").map(PathBuf::from) else {
        return;
    };
    let from: u8 = std::env::var("STORE_FROM").unwrap().parse().unwrap();
    let (store, _) = SqliteStore::open(&folder, 1000, WALL, &Boot::read(WALL)).unwrap();
    let thread = StoreThread::<()>::start(Box::new(store), || WALL, || {}).unwrap();
    let kept = |id: u8, record: Option<&str>| {
        let row = HookRow { id: KnockId([id; 8]), record: record.map(str::to_owned) };
        thread.keep_hook(row).unwrap();
        while !matches!(thread.try_recv(), Some(Reply::KeptHook(_, Ok(())))) {
            std::thread::yield_now();
        }
    };
    for id in from..from + 10 {
        kept(id, Some("it"));
        println!(" ran:{id} ");
        std::io::stdout().flush().unwrap();
    }
    kept(from, None);
    thread.close();
}

#[test]
fn a_webhook_that_was_kept_before_a_kill_at_any_step_is_there_after_it() {
    const KEPT: [&str; 3] = ["store-hooks-before", "store-hooks-before-commit", "store-hooks-after-commit"];
    for step in KEPT.iter().flat_map(|step| [1, 5, 11].map(|nth| format!("{step}:{nth}"))) {
        let made = made();
        let (kept, status) = process(HOOKS, &made.folder, 0, Some(&step));
        assert_eq!(status.signal(), Some(9), "{step} is never reached");
        let found: BTreeSet<u32> =
            read_hooks(&made.folder).unwrap().iter().map(|(id, _)| u32::from(id.0[0])).collect();
        let gone = BTreeSet::from([0]);
        assert!(kept.difference(&found).all(|id| gone.contains(id)), "{step}: {kept:?} {found:?}");
        assert!(found.len() <= kept.len() + 1, "{step}: {kept:?} {found:?}");
        let (_, status) = process(HOOKS, &made.folder, 10, None);
        assert!(status.success(), "{step}");
        assert!(read_hooks(&made.folder).unwrap().len() >= 9 + found.len(), "{step}");
    }
}

//! kill -9 at every step, a crash of the machine, a full and a read-only disk: nothing runs twice, nothing runs
//! unrecorded, and service returns by itself.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::common::{Daemon, Site, until};

/// Every step at which a claim's way can be cut.
const STEPS: &[&str] = &[
    "store-claim-before",
    "store-claim-before-commit",
    "store-claim-after-commit",
    "store-claim-before-reply",
    "keeper-claimed",
    "keeper-started",
];

#[test]
fn kill_9_at_every_step_runs_a_knock_at_most_once() {
    for step in STEPS {
        let site = Site::new().with_run();
        let datagram = site.datagram();
        let daemon = site.start_with(|command| {
            command.env("SIGLATCH_CRASH_AT", step);
        });
        daemon.send(&datagram);
        assert_eq!(daemon.ended().status.signal(), Some(9), "{step}");

        let daemon = site.start();
        daemon.send(&datagram);
        until(step, || daemon.log().iter().any(|line| line.contains("knock=")).then_some(()));
        daemon.send(&site.datagram());
        until(step, || daemon.log().iter().any(|line| line.contains("code=finished")).then_some(()));
        let stopped = daemon.stop();
        assert!(stopped.count("ran") >= 1, "{step}: it serves after the kill");
        assert!(site.runs() <= 2, "{step}: {} runs of two knocks", site.runs());
    }
    assert_eq!(STEPS.len(), 6);
}

#[test]
fn kill_9_while_opening_or_closing_loses_no_claim() {
    for step in ["store-open-before-commit", "store-open-after-commit", "store-close-before-commit"] {
        let site = Site::new().with_run();
        let datagram = site.datagram();
        let mut daemon = site.start();
        daemon.send(&datagram);
        daemon.wait("the knock", |line| line.contains("code=finished"));
        let cut = if step.contains("close") {
            daemon.stop();
            let daemon = site.start_with(|command| {
                command.env("SIGLATCH_CRASH_AT", step);
            });
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            daemon
        } else {
            daemon.kill();
            site.spawn(|command| {
                command.env("SIGLATCH_CRASH_AT", step);
            })
        };
        assert_eq!(cut.ended().status.signal(), Some(9), "{step}");
        let mut daemon = site.start();
        daemon.send(&datagram);
        daemon.wait("the refusal", |line| line.contains("code=replay"));
        daemon.stop();
        assert_eq!(site.runs(), 1, "{step}");
    }
}

/// As root, else says that it is skipped.
fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::common::skipped("mounting needs root");
    }
    root
}

/// Starts the daemon on a machine that booted now and is another boot than any before.
fn after_a_reboot(site: &Site) -> Daemon {
    let now = crate::common::unix();
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let stat: Vec<String> = stat
        .lines()
        .map(|line| if line.starts_with("btime ") { format!("btime {now}") } else { line.to_owned() })
        .collect();
    site.file("stat", (stat.join("\n") + "\n").as_bytes(), 0o644);
    site.file("boot_id", b"01234567-89ab-cdef-0123-456789abcdef\n", 0o644);
    let script = format!(
        "mount --bind {0}/stat /proc/stat && mount --bind {0}/boot_id /proc/sys/kernel/random/boot_id && exec {1} --config {0}/siglatchd.toml",
        site.dir.path().display(),
        env!("CARGO_BIN_EXE_siglatchd"),
    );
    site.start_with(|command| {
        let stderr = std::process::Stdio::piped();
        *command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).stderr(stderr);
    })
}

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn a_crash_of_the_machine_that_takes_the_last_claims_along_revives_no_knock() {
    if !root() {
        return;
    }
    let site = Site::new().with_run();
    let (first, second) = (site.datagram(), site.datagram());
    let mut daemon = site.start();
    daemon.send(&first);
    daemon.wait("the first", |line| line.contains("code=finished"));
    // What is on the disk when the power goes; the second claim is not.
    copy(&site.path("state"), &site.path("disk"));
    daemon.send(&second);
    daemon.wait_count("the second", 2, |line| line.contains("code=finished"));
    daemon.kill();
    copy(&site.path("disk"), &site.path("state"));

    let daemon = after_a_reboot(&site);
    assert!(daemon.log().iter().any(|line| line.contains("code=store-crashed")), "{:?}", daemon.log());
    daemon.send(&first);
    daemon.send(&second);
    daemon.wait_count("two refusals", 2, |line| line.contains("code=floor") || line.contains("code=replay"));
    // The floor is up to ten seconds ahead of the crash: what is knocked later is served.
    until("a knock after the crash", || {
        daemon.send(&site.datagram());
        std::thread::sleep(Duration::from_millis(300));
        daemon.log().iter().any(|line| line.contains("code=ran")).then_some(())
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let stopped = daemon.ended();
    stopped.assert_balanced();
    let old = [&first, &second].map(|datagram| siglatch::wire::KnockId::of(Sha256::digest(datagram).into()));
    for line in stopped.log.iter().filter(|line| line.contains("code=ran")) {
        assert!(!old.iter().any(|knock| line.contains(&knock.to_string())), "{line}");
    }
}

/// A small disk in place of a folder, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Disk {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs"]).arg(&path);
        assert!(mount.status().unwrap().success());
        Disk(path)
    }

    fn fill(&self) {
        drop(fs::write(self.0.join("filler"), vec![1; 1 << 20]));
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_refuses_knocks_loudly_and_service_returns_by_itself() {
    if !root() {
        return;
    }
    let site = Site::new().with_run();
    fs::remove_dir_all(site.path("state")).unwrap();
    let disk = Disk::mount(site.path("state"));
    site.fresh_store();
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("a knock", |line| line.contains("code=ran"));

    disk.fill();
    let mut refused = Vec::new();
    until("a claim that does not fit", || {
        refused.push(site.datagram());
        daemon.send(refused.last().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        daemon.log().iter().any(|line| line.contains("code=store-failed")).then_some(())
    });
    daemon.wait("the alarm", |line| line.contains("ERROR") && line.contains("code=store-failing"));
    let runs = daemon.log().iter().filter(|line| line.contains("code=ran")).count();

    disk.empty();
    daemon.send(&site.datagram());
    daemon.wait("the end of the alarm", |line| line.contains("code=store-recovered"));
    until("a knock", || (site.runs() == runs + 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_store_that_cannot_be_written_stops_the_start_with_a_clear_error() {
    if !root() {
        return;
    }
    let site = Site::new().with_run();
    fs::remove_dir_all(site.path("state")).unwrap();
    let disk = Disk::mount(site.path("state"));
    disk.fill();
    let full = site.spawn(|_| {}).ended();
    assert_eq!(full.status.code(), Some(75), "{:?}", full.log);
    assert!(
        full.log.iter().any(|line| line.contains("code=failed") && line.contains("room")),
        "{:?}",
        full.log
    );

    disk.empty();
    site.fresh_store();
    disk.read_only();
    let read_only = site.spawn(|_| {}).ended();
    assert_eq!(read_only.status.code(), Some(77), "{:?}", read_only.log);
}

#[test]
fn a_damaged_store_stops_the_start_and_is_left_as_it_is() {
    let site = Site::new().with_run();
    let file = fs::read_dir(site.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    let garbage = vec![b'x'; 20_000];
    fs::write(&file, &garbage).unwrap();
    let damaged = site.spawn(|_| {}).ended();
    assert_eq!(damaged.status.code(), Some(78), "{:?}", damaged.log);
    assert!(damaged.log.iter().any(|line| line.contains(file.to_str().unwrap())), "{:?}", damaged.log);
    assert_eq!(fs::read(&file).unwrap(), garbage);
}

#[test]
fn a_store_in_memory_refuses_what_was_knocked_before_its_start() {
    let mut site = Site::new().with_run();
    site.top += "store = \"memory\"\n";
    let before = site.datagram();
    let mut daemon = site.start();
    daemon.send(&before);
    daemon.wait("the refusal", |line| line.contains("code=floor"));
    until("a later knock", || {
        daemon.send(&site.datagram());
        std::thread::sleep(Duration::from_millis(200));
        (site.runs() > 0).then_some(())
    });
    daemon.stop();
}

/// Every step at which a door's way can be cut, and how often it comes: the door is kept as opening, open, closing and
/// closed.
const DOOR_STEPS: &[(&str, usize)] = &[
    ("keeper-claimed", 1),
    ("store-keep-before", 4),
    ("store-keep-before-commit", 4),
    ("store-keep-after-commit", 4),
    ("store-keep-before-reply", 4),
    ("keeper-kept", 4),
    ("keeper-door-started", 2),
    ("keeper-ran", 1),
    ("keeper-undone", 1),
];

#[test]
fn kill_9_at_every_step_opens_a_door_at_most_once_and_never_leaves_it_open() {
    let mut cuts = 0;
    for (step, nth) in DOOR_STEPS.iter().flat_map(|(step, times)| (1..=*times).map(move |nth| (step, nth))) {
        cuts += 1;
        let step = &format!("{step}:{nth}");
        let site = Site::new().with_door("1s", "");
        let datagram = site.datagram();
        let daemon = site.start_with(|command| {
            command.env("SIGLATCH_CRASH_AT", step);
        });
        daemon.send(&datagram);
        assert_eq!(daemon.ended().status.signal(), Some(9), "{step}");
        // A `run` that was on its way is over by now, as systemd would see to.
        std::thread::sleep(Duration::from_millis(200));

        let mut daemon = site.start();
        daemon.send(&datagram);
        daemon.wait("the knock's fate", |line| {
            line.contains("code=replay") || line.contains("code=lease-began")
        });
        until("a closed door", || (doors(&site) == 0).then_some(()));
        daemon.stop();
        let said = site.said();
        let runs = said.iter().filter(|line| line.starts_with("run")).count();
        assert!(runs <= 1, "{step}: {said:?}");
        assert!(runs == 0 || said.last().unwrap().starts_with("undo"), "{step}: {said:?}");
        let undos = said.len() - runs;
        assert!(undos <= 2, "{step}: {said:?}");
    }
    assert_eq!(cuts, 25);
}

fn doors(site: &Site) -> usize {
    siglatch::store::sqlite::read_doors(&site.path("state")).unwrap().len()
}

#[test]
fn a_door_over_a_reboot_is_closed_by_the_wall_clock_and_what_was_cut_short_is_undone() {
    if !root() {
        return;
    }
    let site = Site::new().with_door("1s", "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("run's end", |line| line.contains("code=finished"));
    until("that it is kept as open", || {
        let kept = siglatch::store::sqlite::read_doors(&site.path("state")).unwrap();
        kept.first().is_some_and(|(_, record)| record.contains("\"open\"")).then_some(())
    });
    daemon.kill();
    std::thread::sleep(Duration::from_secs(1));
    let daemon = after_a_reboot(&site);
    until("a closed door", || (doors(&site) == 0).then_some(()));
    assert_eq!(site.said(), ["run 127.0.0.1 alice", "undo 127.0.0.1 alice expired 1"]);
    drop(daemon);
}

#[test]
fn a_full_disk_opens_no_door_and_leaves_none_open() {
    if !root() {
        return;
    }
    let site = Site::new().with_door("3s", "");
    fs::remove_dir_all(site.path("state")).unwrap();
    let disk = Disk::mount(site.path("state"));
    site.fresh_store();
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("run's end", |line| line.contains("code=finished"));
    until("that it is kept as open", || (doors(&site) == 1).then_some(()));
    disk.fill();
    until("undo all the same", || (site.said().len() == 2).then_some(()));
    assert_eq!(site.said()[1], "undo 127.0.0.1 alice expired 1");
    until("a knock that is refused", || {
        daemon.send(&site.datagram());
        std::thread::sleep(Duration::from_millis(50));
        daemon.log().iter().any(|line| line.contains("code=store-failed")).then_some(())
    });
    disk.empty();
    until("nothing to be left", || {
        std::thread::sleep(Duration::from_millis(100));
        (doors(&site) == 0).then_some(())
    });
    let said = site.said();
    assert_eq!(said.iter().filter(|line| line.starts_with("run")).count() * 2, said.len(), "{said:?}");
    daemon.stop();
}

#[test]
fn a_clock_that_steps_neither_closes_a_door_early_nor_leaves_it_open() {
    for step in [86_400, -86_400] {
        let site = Site::new().with_door("4s", "");
        let clock = site.file("clock", b"0", 0o644);
        let with_clock = |command: &mut Command| {
            command.env("SIGLATCH_CLOCK_FILE", &clock);
        };
        let mut daemon = site.start_with(with_clock);
        daemon.send(&site.datagram());
        let begun = std::time::Instant::now();
        daemon.wait("run's end", |line| line.contains("code=finished"));
        fs::write(&clock, step.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        daemon.kill();
        let mut daemon = site.start_with(with_clock);
        daemon.wait("the end", |line| line.contains("reason=expired"));
        let took = begun.elapsed();
        assert!((4.0..8.0).contains(&took.as_secs_f64()), "{step}: {took:?}");
        until("undo", || (site.said().len() == 2).then_some(()));
        daemon.stop();
    }
}

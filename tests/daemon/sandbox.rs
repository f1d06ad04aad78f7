//! The process that reads from the network can do nothing else, and nothing of that reaches scripts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::common::{Site, children, listener_of, skipped, until};
use nix::unistd::geteuid;

fn status(pid: &str, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).expect(key);
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_listener_is_locked_in_with_all_its_threads() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nworkers = 3\n";
    let daemon = site.start();
    let pid = daemon.listener();
    let tasks: Vec<String> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| format!("{pid}/task/{}", task.unwrap().file_name().to_str().unwrap()))
        .collect();
    assert_eq!(tasks.len(), 4, "the loop and its workers");
    for task in &tasks {
        assert_eq!(status(task, "Seccomp"), "2");
        assert_eq!(status(task, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(task, set), "0000000000000000", "{set}");
        }
    }
    let pid = pid.to_string();
    assert_eq!(status(&pid, "Name"), "siglatch-listen");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for (limit, most) in
        [("Max processes", "0"), ("Max open files", "1"), ("Max file size", "0"), ("Max core file size", "0")]
    {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).expect(limit);
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [most, most], "{limit}");
    }
    // Fields 6 and 7 of proc_pid_stat(5): session, terminal.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[3], fields[4]), (pid.as_str(), "0"), "a session of its own, no terminal");
    if !geteuid().is_root() {
        daemon.stop();
        return skipped(
            "a look at the listener's user, descriptors and environment takes more than a plain user",
        );
    }
    assert_eq!(status(&pid, "CapBnd"), "0000000000000000");
    let daemons = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let (uid, gid) = (daemons.uid.as_raw(), daemons.gid.as_raw());
    assert_eq!(status(&pid, "Uid"), [uid; 4].map(|uid| uid.to_string()).join(" "));
    assert_eq!(status(&pid, "Gid"), [gid; 4].map(|gid| gid.to_string()).join(" "));
    assert_eq!(status(&pid, "Groups"), "");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|fd| {
            fs::read_link(fd.unwrap().path()).unwrap().to_str().unwrap().split('[').next().unwrap().to_owned()
        })
        .collect();
    open.sort();
    let null = "/dev/null";
    assert_eq!(
        open,
        [null, null, null, "anon_inode:", "socket:", "socket:", "socket:"],
        "nothing, the events, the channel, the two of one address"
    );
    daemon.stop();
}

#[test]
fn nothing_of_it_reaches_a_script() {
    let mut site = Site::new();
    let out = site.path("out");
    let script = format!(
        "{{ cat /proc/self/status /proc/self/limits; env; ls /proc/self/fd; }} > {0}.new; mv {0}.new {0}",
        out.display()
    );
    site.action("look", 1, &script).user("alice", 1, &["look"], "");
    let mut daemon = site.start_with(|command| {
        command.env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "60000000").env("LISTEN_FDNAMES", "x");
    });
    daemon.send(&site.datagram());
    daemon.wait("the script", |line| line.contains("code=finished"));
    let seen = fs::read_to_string(&out).unwrap();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).expect(key);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field(&seen, "Seccomp:"), "Seccomp: 0");
    assert_eq!(field(&seen, "NoNewPrivs:"), "NoNewPrivs: 0");
    let own = format!(
        "{}{}",
        fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap(),
        fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap()
    );
    let same = [
        "CapPrm",
        "CapEff",
        "CapBnd",
        "Uid",
        "Gid",
        "Groups",
        "Max processes",
        "Max open files",
        "Max file size",
    ];
    for key in same {
        assert_eq!(field(&seen, key), field(&own, key));
    }
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_"] {
        assert!(!seen.contains(name), "{name} reached the script");
    }
    daemon.stop();
}

#[test]
fn the_keeper_keeps_no_file_of_the_key_and_the_listener_no_key_that_signs() {
    if !geteuid().is_root() {
        return skipped("reading a process's memory takes root");
    }
    let site = Site::new().with_run();
    let daemon = site.start();
    // The private exponent's middle.
    let der = site.key.der();
    let needle = &der[der.len() / 2..der.len() / 2 + 24];
    let pem = site.key.to_pem().unwrap();
    for (form, needle) in [("DER", needle), ("PEM", &pem.as_bytes()[600..640])] {
        assert!(!memory_has(daemon.pid(), needle), "the keeper has the RSA key as {form}");
    }
    let hmac = site.hmac.bytes();
    assert!(memory_has(daemon.pid(), hmac), "the search finds what is there");
    assert!(!memory_has(daemon.listener(), hmac), "the listener has an HMAC key");
    daemon.stop();
}

/// Looks through all that a process can write.
fn memory_has(pid: i32, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt as _;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut looked = 0;
    let found = maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        looked += read;
        bytes[..read].windows(needle.len()).any(|window| window == needle)
    });
    assert!(found || looked > 100_000, "{looked} bytes are not all of it");
    found
}

#[test]
fn without_the_listeners_user_nothing_starts_and_the_way_to_make_it_is_said() {
    if !geteuid().is_root() {
        return skipped("only root's listener becomes another user");
    }
    let mut site = Site::new().with_run();
    site.top = site.top.replace("listener_user = \"daemon\"\n", "");
    if nix::unistd::User::from_name("siglatch-listen").unwrap().is_none() {
        let refused = site.spawn(|_| {}).ended();
        let log = refused.log.join("\n");
        assert_eq!(refused.status.code(), Some(78), "{log}");
        assert!(log.contains("useradd --system") && log.contains(" siglatch-listen"), "{log}");
    }
    for (user, what, hint) in [
        ("no-such-user", "no user `no-such-user`", "useradd --system"),
        ("nobody", "takes a user of its own", "leave it out"),
        ("root", "takes a user of its own", "leave it out"),
    ] {
        let mut site = Site::new().with_run();
        site.top = site.top.replace("\"daemon\"", &format!("{user:?}"));
        let refused = site.spawn(|_| {}).ended();
        let log = refused.log.join("\n");
        assert_eq!(refused.status.code(), Some(78), "{log}");
        assert!(log.contains(what) && log.contains(hint), "{log}");
    }
}

#[test]
fn a_listener_that_is_not_locked_in_is_told_of() {
    let mut site = Site::new().with_run();
    site.top = site.top.replace("listener_user = \"daemon\"\n", "") + "sandbox = \"off\"\n";
    let mut daemon = site.start();
    let pid = daemon.listener();
    assert_eq!(status(&pid.to_string(), "Seccomp"), "0");
    assert_eq!(fs::metadata(format!("/proc/{pid}/status")).unwrap().uid(), 0, "not dumpable, so root's");
    daemon.wait("a warning", |line| line.contains("code=sandbox-off"));
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    until("the script to be reaped", || (children(daemon.pid()) == [pid]).then_some(()));
    assert_eq!(listener_of(daemon.pid()), Some(pid));
    daemon.stop();
}

#[test]
fn nobody_starts_a_listener_by_hand() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_siglatchd")).arg("--listener").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("siglatchd starts its listener itself"));
}

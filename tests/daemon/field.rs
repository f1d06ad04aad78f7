//! What went wrong in the programs that came before: each failure is a test.

use rsa::rand_core::OsRng;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use crate::common::{Daemon, Site, children, field, knock, until};
use siglatch::wire::{Binding, HmacKey, Knock, KnockId, PLAINTEXT_LEN, UserId, mac};

/// Waits until everything sent before is counted: one more knock of alice's, sent behind it, has run.
fn settle(site: &Site, daemon: &Daemon) {
    let datagram = site.datagram();
    let id = KnockId::of(Sha256::digest(&datagram).into());
    daemon.send(&datagram);
    daemon.wait_count("the last knock", 1, |line| line.contains(&format!("code=finished knock={id} ")));
}

#[test]
fn a_knock_with_a_wrong_hmac_runs_nothing_and_writes_no_line() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let stranger = HmacKey::new([9; 32]).unwrap();
    for binding in [Binding::None, Binding::Server(site.server_id)] {
        let plain = knock(1, b"open").encode(&stranger, binding).unwrap();
        daemon.send(&site.key.public().seal(&mut OsRng, &plain).unwrap());
    }
    settle(&site, &daemon);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("ran"), stopped.count("not-authentic")), (1, 2));
    assert_eq!(stopped.log.iter().filter(|line| line.contains("refused")).count(), 0);
}

#[test]
fn a_knock_of_an_unknown_user_looks_like_any_other_that_is_not_authentic() {
    let site = Site::new().with_run();
    let daemon = site.start();
    daemon.send(&site.sealed(&Knock { user: UserId(999), ..knock(1, b"") }, Binding::None));
    settle(&site, &daemon);
    assert_eq!(daemon.stop().count("not-authentic"), 1);
}

/// A packet with any payload length, signed over as much as there is.
fn with_payload_len(site: &Site, len: u16) -> [u8; PLAINTEXT_LEN] {
    let mut plain = *knock(1, &[b'A'; 199]).encode(&site.hmac, Binding::None).unwrap();
    plain[44..46].copy_from_slice(&len.to_le_bytes());
    let signed = mac::Signed { head: plain.first_chunk().unwrap(), tail: plain.last_chunk().unwrap() };
    let hmac = mac::tag(&site.hmac, &signed, Binding::None);
    plain[12..44].copy_from_slice(&hmac);
    plain
}

#[test]
fn a_payload_length_beyond_the_packet_runs_nothing() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let lengths = [200, 201, 255, 256, 1000, 0x7fff, 0xffff];
    for len in lengths {
        daemon.send(&site.key.public().seal(&mut OsRng, &with_payload_len(&site, len)).unwrap());
    }
    daemon.send(&site.key.public().seal(&mut OsRng, &with_payload_len(&site, 199)).unwrap());
    settle(&site, &daemon);
    let stopped = daemon.stop();
    assert_eq!(stopped.count("not-authentic"), lengths.len() as u64);
    assert_eq!(stopped.count("ran"), 2, "199 is the longest that fits");
}

#[test]
fn junk_does_not_wash_a_nonce_out() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nnonce_cache = 16\n";
    let mut daemon = site.start();
    let first = knock(1, b"");
    daemon.send(&site.sealed(&first, Binding::None));
    daemon.wait("the knock", |line| line.contains("code=ran"));
    let stranger = HmacKey::new([9; 32]).unwrap();
    for _ in 0..200 {
        let plain = knock(1, b"").encode(&stranger, Binding::None).unwrap();
        daemon.send(&site.key.public().seal(&mut OsRng, &plain).unwrap());
    }
    daemon.send(&site.sealed(&first, Binding::None));
    daemon.wait("the refusal", |line| line.contains("code=replay"));
    assert_eq!(daemon.stop().count("ran"), 1);
}

#[test]
fn a_full_nonce_cache_reopens_no_replay() {
    let mut site = Site::new().with_run();
    site.tables = site.tables.replace("id = 1\nrun =", "id = 1\nmax_running = 20\nrun =");
    site.tables += "[limits]\nnonce_cache = 4\n";
    let daemon = site.start();
    let knocks = [(); 12].map(|()| knock(1, b""));
    let send = || knocks.iter().for_each(|knock| daemon.send(&site.sealed(knock, Binding::None)));
    send();
    until("all to run", || (site.runs() == 12).then_some(()));
    send();
    daemon.wait_count("the refusals", 12, |line| line.contains("code=replay"));
    assert_eq!(daemon.stop().count("ran"), 12);
}

#[test]
fn a_full_store_refuses_and_forgets_nothing() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nmax_claims = 3\n";
    let mut daemon = site.start();
    let knocks = [(); 3].map(|()| knock(1, b""));
    let send =
        |daemon: &Daemon| knocks.iter().for_each(|knock| daemon.send(&site.sealed(knock, Binding::None)));
    send(&daemon);
    until("three to run", || (site.runs() == 3).then_some(()));
    daemon.send(&site.datagram());
    daemon.wait("the fourth to be refused", |line| line.contains("code=store-full"));
    send(&daemon);
    daemon.wait_count("the replays", 3, |line| line.contains("code=replay"));
    assert_eq!(daemon.stop().count("ran"), 3);
}

#[test]
fn two_users_may_draw_one_challenge_in_one_second() {
    let mut site = Site::new().with_run();
    let other = HmacKey::new([5; 32]).unwrap();
    site.file("bob.hmac", other.bytes(), 0o600);
    site.tables += "\n[users.bob]\nid = 2\nhmac_key = \"bob.hmac\"\nactions = [\"run\"]\n";
    let daemon = site.start();
    let alice = knock(1, b"");
    let bob = Knock { user: UserId(2), ..alice };
    daemon.send(&site.sealed(&alice, Binding::None));
    daemon.send(&site.key.public().seal(&mut OsRng, &bob.encode(&other, Binding::None).unwrap()).unwrap());
    until("both to run", || (site.runs() == 2).then_some(()));
    assert_eq!(daemon.stop().count("ran"), 2);
}

#[test]
fn a_hundred_knocks_leave_no_zombie_and_no_descriptor() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nuser_burst = 1000\nuser_rate = 1000\nmax_jobs = 500\n";
    let daemon = site.start();
    settle(&site, &daemon);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map(Iterator::count).unwrap_or(0);
    daemon.wait_count("the first end", 1, |line| line.contains("code=finished"));
    let before = descriptors();
    for done in 0..10 {
        (0..8).for_each(|_| daemon.send(&site.datagram()));
        daemon.wait_count("their ends", 1 + (done + 1) * 8, |line| line.contains("code=finished"));
    }
    assert_eq!(descriptors(), before);
    assert_eq!(children(daemon.pid()), [daemon.listener()], "every other child is reaped");
    assert_eq!(daemon.stop().count("ran"), 81);
}

#[test]
fn sources_and_short_datagrams_fill_no_table() {
    let mut site = Site::new().with_run();
    site.top = site.top.replace("127.0.0.1:0", "0.0.0.0:0");
    site.tables += "[limits]\nuser_burst = 1000\n";
    let mut daemon = site.start();
    daemon.address.set_ip([127, 0, 0, 1].into());
    for host in 2..=250 {
        let socket = UdpSocket::bind((format!("127.0.0.{host}"), 0)).unwrap();
        socket.send_to(b"x", daemon.address).unwrap();
        socket.send_to(&[0; 256], daemon.address).unwrap();
    }
    for host in 2..=101 {
        let socket = UdpSocket::bind((format!("127.0.0.{host}"), 0)).unwrap();
        socket.send_to(&site.datagram(), daemon.address).unwrap();
        until("the knock", || (site.runs() == host - 1).then_some(()));
    }
    let stopped = daemon.stop();
    assert_eq!(
        (stopped.count("length"), stopped.count("not-authentic"), stopped.count("ran")),
        (0, 249, 100),
        "the kernel drops what has no knock's length"
    );
}

#[test]
fn a_plaintext_packet_runs_nothing_and_is_answered_with_silence() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plain = knock(1, b"id").encode(&site.hmac, Binding::None).unwrap();
    let mut padded = plain.to_vec();
    padded.resize(256, 0);
    for bytes in [&plain[..], &padded, b"{\"action\":1}", b""] {
        socket.send_to(bytes, daemon.address).unwrap();
    }
    socket.send_to(&site.datagram(), daemon.address).unwrap();
    until("the knock", || (site.runs() == 1).then_some(()));
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(socket.recv(&mut [0; 2048]).is_err(), "not even the good knock is answered");
    assert_eq!(daemon.stop().count("ran"), 1);
}

#[test]
fn a_script_gets_neither_the_daemons_environment_nor_its_descriptors() {
    let mut site = Site::new();
    let out = site.path("out");
    site.action(
        "show",
        1,
        &format!("{{ env; ls -l /proc/self/fd; }} > {0}.new; mv {0}.new {0}", out.display()),
    );
    site.user("alice", 1, &["show"], "");
    let secret = fs::File::open(site.path("alice.hmac")).unwrap();
    nix::fcntl::fcntl(&secret, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let daemon = site.start_with(|command| {
        command.env("DAEMON_SECRET", "hidden");
    });
    drop(secret);
    daemon.send(&site.datagram());
    let shown = until("the script", || fs::read_to_string(&out).ok());
    assert!(shown.contains("SIGLATCH_USER=alice") && !shown.contains("DAEMON_SECRET"), "{shown}");
    assert!(
        !shown.contains("alice.hmac") && !shown.contains("claims.db") && !shown.contains("socket:"),
        "{shown}"
    );
    daemon.stop();
}

#[test]
fn a_slow_script_delays_nobody() {
    let mut site = Site::new();
    let fast = site.path("fast");
    site.action("slow", 1, "trap '' TERM; yes | head -c 10000000; sleep 60");
    site.action("fast", 2, &format!("echo >> {}", fast.display()));
    site.user("alice", 1, &["slow", "fast"], "");
    site.tables = site.tables.replace("[actions.slow]", "[actions.slow]\ntimeout = \"2s\"\ngrace = \"1s\"");
    let mut daemon = site.start();
    for _ in 0..5 {
        daemon.send(&site.sealed(&knock(1, b""), Binding::None));
    }
    daemon.wait_count("the slow ones", 5, |line| line.contains("action=slow") && line.contains("code=ran"));
    let begin = std::time::Instant::now();
    for number in 1..=5 {
        daemon.send(&site.sealed(&knock(2, b""), Binding::None));
        until("a fast one", || (fs::read_to_string(&fast).unwrap_or_default().len() >= number).then_some(()));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "five fast scripts took {:?}", begin.elapsed());
    daemon.wait("the end of a slow one", |line| line.contains("signal=9"));
    daemon.stop();
}

#[test]
fn a_background_child_that_keeps_stdout_open_blocks_nobody() {
    let mut site = Site::new();
    site.action("daemonize", 1, "echo started; sleep 5 & exit 0");
    site.user("alice", 1, &["daemonize"], "");
    let mut daemon = site.start();
    let begin = std::time::Instant::now();
    daemon.send(&site.datagram());
    daemon.wait("its line", |line| line.contains("text=started"));
    let line = daemon.wait("its end", |line| line.contains("code=finished"));
    assert_eq!(field(&line, "rc").unwrap(), "0");
    daemon.stop();
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn garbage_writes_no_log_lines() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let replayed = site.datagram();
    for number in 0..5_000_u32 {
        let mut junk = [0x55; 256];
        junk[100..104].copy_from_slice(&number.to_le_bytes());
        socket.send_to(if number % 10 == 0 { &replayed } else { &junk }, daemon.address).unwrap();
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // A full queue drops knocks too: one of these gets through when the flood has drained.
    until("a knock after the flood", || {
        daemon.send(&site.datagram());
        std::thread::sleep(Duration::from_millis(200));
        (site.runs() > 1).then_some(())
    });
    let stopped = daemon.stop();
    assert!(stopped.count("not-authentic") > 1000 && stopped.count("seen") > 100, "{:?}", stopped.counts());
    assert!(stopped.log.len() < 40, "{} lines:\n{}", stopped.log.len(), stopped.log.join("\n"));
}

#[test]
fn what_is_refused_unseen_is_told_in_one_line_per_interval() {
    let mut site = Site::new().with_run();
    site.tables += "[log]\nsummary = \"10s\"\n";
    let mut daemon = site.start();
    // The kernel's to drop.
    (0..30).for_each(|_| daemon.send(b"short"));
    (0..30).for_each(|_| daemon.send(&[0; 256]));
    (1..20).for_each(|number| daemon.send(&[number; 256]));
    settle(&site, &daemon);
    let line = daemon.wait("the summary", |line| line.contains("code=summary"));
    let count = |key| field(&line, key).unwrap().parse::<u64>().unwrap();
    assert_eq!((count("received"), count("ran"), count("seen")), (50, 1, 29));
    assert_eq!(count("not-authentic"), 20);
    assert_eq!(count("kernel-drops"), 30);
    // Silence again, and no further line.
    let stopped = daemon.stop();
    assert_eq!(stopped.log.iter().filter(|line| line.contains("code=summary")).count(), 1);
}

#[test]
fn a_burst_of_two_thousand_valid_knocks_runs_whole() {
    let mut site = Site::new();
    site.action_with("quick", 1, ":", "max_running = 2000\non_busy = \"queue\"\nmax_queue = 2000");
    site.user("alice", 1, &["quick"], "");
    site.tables += "[limits]\nuser_rate = 100000\nuser_burst = 100000\nmax_jobs = 200\nqueue = 4096\n";
    let daemon = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams: Vec<_> = (0..2000).map(|_| site.datagram()).collect();
    for (number, datagram) in datagrams.iter().enumerate() {
        socket.send_to(datagram, daemon.address).unwrap();
        // The kernel's buffer holds some hundreds; the listener needs the other core now and then.
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    daemon.wait_count("the ends", 2000, |line| line.contains("code=finished"));
    assert_eq!(daemon.stop().count("ran"), 2000);
}

#[test]
fn a_datagram_longer_than_a_packet_is_not_cut_to_fit() {
    let site = Site::new().with_run();
    let daemon = site.start();
    for extra in [1, 2, 32, 1000] {
        let mut longer = site.datagram();
        longer.resize(256 + extra, 0);
        daemon.send(&longer);
    }
    settle(&site, &daemon);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (1, 1));
}

#[test]
fn a_timeout_ends_the_shell_and_its_children() {
    let mut site = Site::new();
    let pid = site.path("pid");
    site.action_with(
        "family",
        1,
        &format!("sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 0.1; done' & wait", pid.display()),
        "timeout = \"1s\"\ngrace = \"1s\"",
    );
    site.user("alice", 1, &["family"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("the timeout", |line| line.contains("code=timeout"));
    daemon.wait("the end", |line| line.contains("code=finished"));
    let child = fs::read_to_string(&pid).unwrap();
    until("the grandchild to be gone", || {
        (!fs::exists(format!("/proc/{}", child.trim())).unwrap()).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_socket_that_fills_faster_than_its_budget_does_not_stall() {
    let mut site = Site::new().with_run();
    site.top = site.top.replace("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"127.0.0.2:0\", \"[::1]:0\"]");
    let mut daemon = site.start();
    let listen = field(&daemon.wait("ready", |line| line.contains("code=ready")), "listen").unwrap();
    let addresses: Vec<std::net::SocketAddr> =
        listen.split(' ').map(|address| address.parse().unwrap()).collect();
    for round in 0..3 {
        for address in &addresses {
            let from = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let socket = UdpSocket::bind(from).unwrap();
            (0..200).for_each(|_| assert_eq!(socket.send_to(&[1; 256], address).unwrap(), 256));
            socket.send_to(&site.datagram(), address).unwrap();
        }
        until("the knock behind each flood", || (site.runs() == (round + 1) * 3).then_some(()));
    }
    let stopped = daemon.stop();
    assert_eq!((stopped.count("seen"), stopped.count("not-authentic")), (1798, 2), "by source, two");
}

#[test]
fn a_replay_from_another_port_or_address_is_a_replay() {
    let mut site = Site::new().with_run();
    site.top = site.top.replace("127.0.0.1:0", "0.0.0.0:0");
    let mut daemon = site.start();
    daemon.address.set_ip([127, 0, 0, 1].into());
    let knock = knock(1, b"");
    let datagram = site.sealed(&knock, Binding::None);
    let again = site.sealed(&knock, Binding::None);
    let send = |source: &str, datagram: &[u8]| {
        UdpSocket::bind(source).unwrap().send_to(datagram, daemon.address).unwrap();
    };
    for (source, datagram, code) in [
        ("127.0.0.1:0", &datagram, "ran"),
        ("127.0.0.1:0", &again, "replay"),
        ("127.0.0.3:0", &datagram, "contested"),
    ] {
        send(source, datagram);
        daemon.wait_count(code, 1, |line| line.contains(&format!("code={code}")));
    }
    // The same bytes once more are not even opened.
    send("127.0.0.1:0", &datagram);
    send("127.0.0.3:0", &datagram);
    settle(&site, &daemon);
    let stopped = daemon.stop();
    let counts = ["ran", "replay", "contested", "seen"].map(|code| stopped.count(code));
    assert_eq!(counts, [2, 1, 1, 2]);
}

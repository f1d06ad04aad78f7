//! What `siglatch` does for who goes through a door: knocks, waits, carries bytes, closes it again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]
#![allow(clippy::disallowed_methods, reason = "tests start the programs, and look at the clock")]

mod programs;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use programs::{Desk, Said, assert_silent, receive, socket};
use siglatch::wire::Packet;
use siglatch::wire::stamp::Stamped;

const RELEASE: &[u8] = b"\0SLO\x01\x01\x04\0";
const TEN_MINUTES: &[u8] = b"\0SLO\x01\x01\x01\x04\0\0\x02\x58";

/// A profile `office` whose only action, `hello`, is a door, and `plain`, where it is none.
fn doors() -> (UdpSocket, Desk) {
    doors_at("127.0.0.1")
}

fn doors_at(host: &str) -> (UdpSocket, Desk) {
    let socket = socket("127.0.0.1:0");
    let desk = Desk::with_server(host, &socket);
    desk.siglatch(&["join", "alice.invite.toml", "--name", "plain"]).ok();
    let invite = desk.read("alice.invite.toml");
    desk.write("door.toml", invite.replace("\"hello\" = 1", "\"hello\" = { id = 1, door = true }"), 0o600);
    desk.siglatch(&["join", "door.toml", "--force"]).ok();
    (socket, desk)
}

/// The payload of the next knock.
fn payload(desk: &Desk, socket: &UdpSocket) -> Vec<u8> {
    let datagram = receive(socket);
    let sealed = Stamped::split(&datagram, 256).map_or(&datagram[..], |stamped| stamped.sealed);
    Packet::decode(&desk.open(sealed)).unwrap().payload.to_vec()
}

/// A server on loopback.
fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

/// A port that refuses; nobody else gets it meanwhile.
fn refusing() -> (socket2::Socket, String) {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = held.local_addr().unwrap().as_socket().unwrap().port().to_string();
    (held, port)
}

fn spawn(desk: &Desk, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_siglatch"))
        .args(args)
        .env("HOME", desk.path("home"))
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Its end, which comes within 10 s.
fn ended(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn stderr(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn a_hold_and_a_release_are_options_in_front_of_the_payload() {
    let (socket, desk) = doors();
    let said = desk.siglatch(&["knock", "office", "hello", "--for", "10m"]).ok();
    assert!(said.out.starts_with("knocked office: hello (1) for 10m as alice (1) to "), "{}", said.out);
    assert_eq!(payload(&desk, &socket), TEN_MINUTES);
    desk.siglatch(&["knock", "office", "hello", "--for", "10m", "--payload", "hi"]).ok();
    assert_eq!(payload(&desk, &socket), [TEN_MINUTES, b"hi"].concat());
    let said = desk.siglatch(&["release", "office", "hello"]).ok();
    assert!(said.out.starts_with("knocked office: release of hello (1) as alice"), "{}", said.out);
    assert_eq!(payload(&desk, &socket), RELEASE);
    assert_eq!(desk.siglatch(&["release", "-q", "office", "1"]).ok().out, "");
    assert_eq!(payload(&desk, &socket), RELEASE);

    let args = desk.direct(&socket, &["1", "--for", "600s"]);
    desk.siglatch(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!(payload(&desk, &socket), TEN_MINUTES, "nobody knows what it is, who asks may");

    let long = "x".repeat(199);
    desk.siglatch(&["knock", "office", "hello", "--for", "10m", "--payload", &long])
        .failed(64, "options and payload are longer than the 199 bytes");
    for time in ["0s", "10", "1500ms", "-1s", "4294967296s", ""] {
        desk.siglatch(&["knock", "office", "hello", &format!("--for={time}")]).failed(64, "such as 90s");
    }
    assert_silent(&socket);
}

#[test]
fn an_action_that_is_no_door_is_never_sent_an_option() {
    let (socket, desk) = doors();
    let (_held, port) = refusing();
    let cases: [&[&str]; 7] = [
        &["knock", "plain", "hello", "--for", "10m"],
        &["knock", "office", "7", "--for", "10m"],
        &["release", "plain", "hello"],
        &["wait", "plain", "hello", "--port", "1", "--for", "10m"],
        &["proxy", "plain", "127.0.0.1", &port, "--release"],
        &["ssh-config", "plain", "--release"],
        &["ssh", "--for", "10m", "plain"],
    ];
    for args in cases {
        desk.siglatch(args).failed(64, "does not say that ").failed(64, "hint: ask for a new invite");
    }
    assert_silent(&socket);
}

#[test]
fn a_door_is_knocked_in_each_family_unless_one_is_asked_for() {
    let v6 = socket("[::1]:0");
    let v4 = UdpSocket::bind(("127.0.0.1", v6.local_addr().unwrap().port())).unwrap();
    v4.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let desk = Desk::with_server("localhost", &v6);
    let invite = desk.read("alice.invite.toml");
    desk.write("door.toml", invite.replace("\"hello\" = 1", "\"hello\" = { id = 1, door = true }"), 0o600);
    desk.siglatch(&["join", "door.toml", "--force"]).ok();

    let here: Vec<_> = std::net::ToSocketAddrs::to_socket_addrs("localhost:1").unwrap().collect();
    let families = if here.iter().any(std::net::SocketAddr::is_ipv6) { 2 } else { 1 };
    let knock = |args: &[&str]| desk.siglatch(&[&["knock", "office", "hello"], args].concat()).ok().out;
    assert_eq!(knock(&[]).lines().count(), families);
    assert_ne!(receive(&v4), if families == 2 { receive(&v6) } else { Vec::new() });
    assert_eq!(knock(&["-4"]).lines().count(), 1);
    assert_eq!(knock(&["--bind-address", "127.0.0.1"]).lines().count(), 1);
    assert_eq!(knock(&["-4", "--save", "kept"]).lines().count(), 1);
    for _ in 0..3 {
        receive(&v4);
    }
    assert_silent(&v4);
    assert_silent(&v6);
}

#[test]
fn a_wait_ends_when_the_port_opens() {
    let (socket, desk) = doors();
    let (listener, port) = listening();
    for profile in ["office", "plain"] {
        let said = desk.siglatch(&["wait", profile, "hello", "--port", &port]).ok();
        assert_eq!(said.out, format!("127.0.0.1 port {port} is open at 127.0.0.1\n"));
        assert_eq!(payload(&desk, &socket), b"");
    }
    assert_eq!(
        desk.siglatch(&["wait", "-q", "office", "hello", "--port", &port, "--for", "10m"]).ok().out,
        ""
    );
    assert_eq!(payload(&desk, &socket), TEN_MINUTES);
    drop(listener);

    let (held, port) = refusing();
    let mut waiting = spawn(&desk, &["wait", "office", "hello", "--port", &port]);
    receive(&socket);
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it is refused, and may open yet");
    held.listen(1).unwrap();
    assert!(ended(&mut waiting).success());
    assert_silent(&socket);
}

#[test]
fn a_wait_that_is_in_vain_ends_in_time_and_says_why() {
    let (socket, desk) = doors();
    let (_held, port) = refusing();
    let begun = Instant::now();
    let wait = ["wait", "office", "hello", "--port", &port, "--timeout", "700ms"];
    desk.siglatch(&wait)
        .failed(
            75,
            &format!("but 127.0.0.1 port {port} did not open in 700ms: 127.0.0.1: Connection refused"),
        )
        .failed(75, "hint: it refuses");
    assert!((700..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    receive(&socket);
    let at = |host| desk.siglatch(&[&wait[..], &["--host", host]].concat());
    at("no-such-host.invalid").failed(75, "cannot resolve no-such-host.invalid");
    at("::1").failed(75, "::1: Connection refused");
    at("a b").failed(64, "no host name");
    desk.siglatch(&[&wait[..], &["--host", "::1", "-4"]].concat()).failed(75, "no address of the family");
    for time in ["0s", "99ms", "2h", "x"] {
        desk.siglatch(&["wait", "office", "hello", "--port", "1", "--timeout", time])
            .failed(64, "from 100ms to 1h");
    }
    desk.siglatch(&["wait", "office", "hello", "--port", "0"]).failed(64, "0");
    desk.siglatch(&["wait", "nowhere", "hello", "--port", "1"]).failed(78, "no profile \"nowhere\"");
}

#[test]
fn a_knock_that_may_be_lost_is_sent_again_the_same_bytes() {
    let (socket, desk) = doors();
    let (held, port) = refusing();
    let mut waiting = spawn(&desk, &["wait", "office", "hello", "--port", &port]);
    let first = receive(&socket);
    let begun = Instant::now();
    assert_eq!(receive(&socket), first, "so that it runs once");
    assert!(begun.elapsed() > Duration::from_millis(500), "not at once");
    held.listen(1).unwrap();
    assert!(ended(&mut waiting).success());

    let old = desk.read("alice.invite.toml");
    let old: String =
        old.lines().filter(|line| !line.starts_with("server_id")).collect::<Vec<_>>().join("\n");
    desk.write("old.toml", old.replace("stamp = true", "stamp = false"), 0o600);
    desk.siglatch(&["join", "old.toml", "--name", "old"]).ok();
    let (_held, port) = refusing();
    desk.siglatch(&["wait", "old", "hello", "--port", &port, "--timeout", "1500ms"])
        .failed(75, "did not open");
    assert_eq!(receive(&socket).len(), 256);
    assert_silent(&socket);
}

#[test]
fn bytes_go_both_ways_and_each_way_has_its_own_end() {
    let (_socket, desk) = doors();
    let (listener, port) = listening();
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    std::thread::scope(|scope| {
        // Answers when the other side has come to its end.
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.reverse();
            stream.write_all(&all).unwrap();
        });
        let mut proxy = spawn(&desk, &["proxy", "office", "127.0.0.1", &port]);
        let mut stdin = proxy.stdin.take().unwrap();
        let sent = bytes.clone();
        scope.spawn(move || stdin.write_all(&sent).unwrap());
        let mut answer = Vec::new();
        proxy.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
        assert!(answer.iter().rev().eq(&bytes), "{} bytes came back", answer.len());
        assert!(ended(&mut proxy).success());
    });

    // And the other way round: it ends first, and still takes all.
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let mut proxy = spawn(&desk, &["proxy", "office", "127.0.0.1", &port, "--action", "hello"]);
        let mut hello = String::new();
        proxy.stdout.take().unwrap().read_to_string(&mut hello).unwrap();
        assert_eq!(hello, "hello", "and its end");
        let mut stdin = proxy.stdin.take().unwrap();
        stdin.write_all(&bytes).unwrap();
        drop(stdin);
        assert!(server.join().unwrap() == bytes);
        assert!(ended(&mut proxy).success());
    });
}

/// A proxy through which a byte has gone.
fn through(desk: &Desk, listener: &TcpListener, more: &[&str]) -> (Child, TcpStream) {
    let port = listener.local_addr().unwrap().port().to_string();
    let mut proxy = spawn(desk, &[&["proxy", "office", "127.0.0.1", &port][..], more].concat());
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"x").unwrap();
    proxy.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    (proxy, stream)
}

#[test]
fn a_connection_that_is_lost_and_a_reader_that_leaves_end_the_proxy() {
    let (_socket, desk) = doors();
    let (listener, _) = listening();
    let (mut proxy, stream) = through(&desk, &listener, &[]);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(ended(&mut proxy).code(), Some(75));
    assert!(stderr(&mut proxy).contains("error: the connection to 127.0.0.1 broke off: "));

    let (mut proxy, mut stream) = through(&desk, &listener, &[]);
    drop(proxy.stdout.take());
    stream.write_all(b"nobody reads that").unwrap();
    assert_eq!(ended(&mut proxy).code(), Some(0));
    assert_eq!(stderr(&mut proxy), "");

    // Both, as ssh does it.
    let (mut proxy, mut stream) = through(&desk, &listener, &[]);
    drop((proxy.stdin.take(), proxy.stdout.take()));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    assert!(ended(&mut proxy).success());
}

#[test]
fn a_proxy_whose_port_never_opens_says_so_and_sends_nothing_down_the_pipe() {
    let (socket, desk) = doors();
    let (_held, port) = refusing();
    desk.siglatch(&["proxy", "office", "127.0.0.1", &port, "--timeout", "300ms"])
        .failed(75, "did not open in 300ms");
    receive(&socket);
    desk.siglatch(&["proxy", "office", "127.0.0.1", &port, "--action", "bye"])
        .failed(64, "has no action \"bye\"");
    desk.siglatch(&["proxy", "office", "%h", "x"]).failed(64, "");
    assert_silent(&socket);
}

#[test]
fn the_door_is_closed_at_the_end_however_it_comes() {
    let (socket, desk) = doors();
    let (listener, _) = listening();
    let release = ["--release"];
    let (mut proxy, mut stream) = through(&desk, &listener, &release);
    assert_eq!(payload(&desk, &socket), b"");
    drop(proxy.stdin.take());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    assert!(ended(&mut proxy).success());
    assert_eq!(payload(&desk, &socket), RELEASE);

    for end in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let (mut proxy, _stream) = through(&desk, &listener, &release);
        receive(&socket);
        signal(&proxy, end);
        assert_eq!(ended(&mut proxy).code(), Some(128 + end as i32));
        assert_eq!((payload(&desk, &socket), stderr(&mut proxy)), (RELEASE.to_vec(), String::new()));

        let (mut proxy, _stream) = through(&desk, &listener, &[]);
        receive(&socket);
        signal(&proxy, end);
        assert_eq!(ended(&mut proxy).signal(), Some(end as i32));
    }

    // Ctrl-C ends ssh too, which then sends SIGHUP; whichever is first.
    for (first, second) in [(Signal::SIGINT, Signal::SIGHUP), (Signal::SIGHUP, Signal::SIGTERM)] {
        let (mut proxy, _stream) = through(&desk, &listener, &release);
        receive(&socket);
        signal(&proxy, Signal::SIGSTOP);
        signal(&proxy, first);
        signal(&proxy, second);
        signal(&proxy, Signal::SIGCONT);
        assert!(ended(&mut proxy).code().unwrap() > 128);
        assert_eq!(payload(&desk, &socket), RELEASE);
    }

    let (_held, port) = refusing();
    let mut waiting = spawn(&desk, &["proxy", "office", "127.0.0.1", &port, "--release"]);
    receive(&socket);
    signal(&waiting, Signal::SIGINT);
    assert_eq!(ended(&mut waiting).code(), Some(130), "before it opened");
    assert_eq!(payload(&desk, &socket), RELEASE);
    assert_silent(&socket);
}

/// A folder with an `ssh` that says what it was given; with -G that its host is as told, and where.
fn fake_ssh(desk: &Desk, answer: &str) {
    let script = format!(
        "#!/bin/sh\ncase $1 in\n-G) printf '%s\\n' \"$@\" >asked; printf '{answer}' ;;\n*) printf '%s\\n' \"$@\"; exit 42 ;;\nesac\n"
    );
    desk.write("bin/ssh", script, 0o755);
}

fn ssh(desk: &Desk, args: &[&str]) -> Said {
    let path = format!("{}:/usr/bin:/bin", desk.path("bin").display());
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    let set = format!("PATH={path}");
    desk.run("/usr/bin/env", &[&[&set, siglatch, "ssh"][..], args].concat(), b"")
}

#[test]
fn siglatch_becomes_ssh_when_the_port_is_open() {
    let (socket, desk) = doors();
    let (_listener, port) = listening();
    fake_ssh(&desk, &format!("user root\\nhostname 127.0.0.1\\nport {port}\\naddressfamily any\\n"));
    let cases: [(&[&str], &[&str]); 6] = [
        (&["office"], &["127.0.0.1"]),
        (&["office", "hello"], &["127.0.0.1"]),
        (&["office", "-l", "root", "uptime"], &["127.0.0.1", "-l", "root", "uptime"]),
        (&["office", "hello", "-v", "--", "a b"], &["127.0.0.1", "-v", "--", "a b"]),
        (&["office", "--", "hello"], &["127.0.0.1", "hello"]),
        (&["--host", "behind.example", "office", "hello", "hello"], &["behind.example", "hello"]),
    ];
    for (args, given) in cases {
        let said = ssh(&desk, args);
        assert_eq!(said.code, 42, "ssh's own end: {said:?}");
        assert_eq!(said.out.lines().collect::<Vec<_>>(), [&["-4"], given].concat(), "and nothing of ours");
        assert_eq!(desk.read("asked").lines().collect::<Vec<_>>(), [&["-G"], given].concat());
        assert_eq!(payload(&desk, &socket), b"");
    }
    ssh(&desk, &["--for", "10m", "office"]);
    assert_eq!(payload(&desk, &socket), TEN_MINUTES);
    assert_silent(&socket);
}

#[test]
fn ssh_goes_its_own_way_where_it_has_one_and_nowhere_when_it_is_wrong() {
    let (socket, desk) = doors();
    for way in ["proxyjump bastion", "proxycommand nc %%h %%p"] {
        fake_ssh(&desk, &format!("hostname 192.0.2.1\\nport 22\\n{way}\\n"));
        assert_eq!(ssh(&desk, &["office", "uptime"]).out, "127.0.0.1\nuptime\n");
        receive(&socket);
    }
    let (_held, port) = refusing();
    fake_ssh(&desk, &format!("hostname 127.0.0.1\\nport {port}\\naddressfamily inet\\n"));
    ssh(&desk, &["--timeout", "200ms", "office"]).failed(75, "did not open in 200ms");
    receive(&socket);

    fake_ssh(&desk, "nothing that is known\\n");
    ssh(&desk, &["office"]).failed(64, "does not say where");
    desk.write("bin/ssh", "#!/bin/sh\necho 'unknown option -- Z' >&2; exit 255", 0o755);
    ssh(&desk, &["office", "-Z"]).failed(64, "unknown option -- Z").failed(64, "nothing was sent");
    ssh(&desk, &["--nonsense", "office"]).failed(64, "--nonsense");
    ssh(&desk, &[]).failed(64, "PROFILE");
    ssh(&desk, &["nowhere"]).failed(78, "no profile \"nowhere\"");
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    let without = desk.run("/usr/bin/env", &["PATH=/nonexistent", siglatch, "ssh", "office"], b"");
    without.failed(78, "cannot start ssh").failed(78, "install the OpenSSH client");
    assert_silent(&socket);
}

#[test]
fn the_action_is_ssh_or_the_only_door_unless_one_is_named() {
    let (_socket, desk) = doors();
    let invite = desk.read("alice.invite.toml");
    let config = |actions: &str, args: &[&str]| {
        desk.write("many.toml", invite.replace("\"hello\" = 1", actions), 0o600);
        desk.siglatch(&["join", "many.toml", "--name", "many", "--force"]).ok();
        desk.siglatch(&[&["ssh-config", "many"], args].concat())
    };
    let chosen = |said: Said, action: &str| {
        let said = said.ok().out;
        assert!(said.contains(&format!("siglatch proxy many --action {action} %h %p\n")), "{said}");
    };
    let door = "{ id = 9, door = true }";
    chosen(config("ssh = 1\nweb = 2", &[]), "ssh");
    chosen(config(&format!("web = 1\nin = {door}"), &[]), "in");
    chosen(config("in = 1", &[]), "in");
    chosen(config("in = 1\nweb = 2", &["web"]), "web");
    config("in = 1\nweb = 2", &[]).failed(64, "which action").failed(64, "name one: in (1), web (2)");
    config(&format!("web = {{ id = 1, door = true }}\nin = {door}\nx = 3"), &[]).failed(64, "which action");
    config("", &[]).failed(64, "no named action");
    config("in = 1", &["ssh"]).failed(64, "has no action \"ssh\"");
}

#[test]
fn the_stanza_says_what_ssh_understands() {
    let (_socket, desk) = doors_at("fe80::1%eth0");
    let said = desk.siglatch(&["ssh-config", "office", "--release", "--for", "90m"]).ok().out;
    let expected = "# Paste into ~/.ssh/config, then: ssh office\nHost office\n    HostName fe80::1%%eth0\n    \
        ProxyCommand siglatch proxy office --action hello --for 1h30m --release %h %p\n";
    assert_eq!(said, expected);
    desk.write("config", said, 0o600);
    let config = desk.path("config").display().to_string();
    let understood = desk.run("ssh", &["-G", "-F", &config, "office"], b"").ok().out;
    assert!(understood.contains("\nhostname fe80::1%eth0\n"), "{understood}");
    let command = "proxycommand siglatch proxy office --action hello --for 1h30m --release %h %p\n";
    assert!(understood.contains(command), "{understood}");
}

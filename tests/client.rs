//! `siglatch`, as its user meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod programs;

use std::net::{IpAddr, UdpSocket};

use programs::{Desk, assert_silent, receive, socket};
use siglatch::wire::stamp::{Epoch, Postage, Stamped, Stamper};
use siglatch::wire::{BeaconKey, Bound, HmacKey, Invite, Packet, StampKey, UserId, mac};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

/// What the server sees of a datagram.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    user: u16,
    action: u8,
    challenge: u32,
    payload: Vec<u8>,
    bound: Option<Bound>,
    postage: Postage,
}

fn see(desk: &Desk, datagram: &[u8], source: &str) -> Seen {
    let stamped = Stamped::split(datagram, 256);
    let sealed = stamped.map_or(datagram, |stamped| stamped.sealed);
    assert_eq!(sealed.len(), 256);
    let plain = desk.open(sealed);
    let packet = Packet::decode(&plain).unwrap();
    let invite = Invite::parse(&desk.read("alice.invite.toml")).unwrap();
    if let Some(stamped) = stamped {
        let epoch = Epoch::of(packet.timestamp.into());
        let stamper = Stamper::new(&StampKey::derive(&invite.server_key, &invite.hmac_key));
        assert_eq!(stamped.beacon, BeaconKey::of(&invite.server_key).beacon(epoch));
        assert_eq!(stamped.hint, stamper.hint(packet.user, epoch));
        assert!(stamper.verifies(&stamped));
    }
    let source: IpAddr = source.parse().unwrap();
    let server = invite.server_id.unwrap();
    let now = siglatch::clock::wall().as_secs();
    assert!(u64::from(packet.timestamp).abs_diff(now) < 60);
    let UserId(user) = packet.user;
    Seen {
        user,
        action: packet.action,
        challenge: packet.challenge,
        payload: packet.payload.to_vec(),
        bound: mac::verify(&invite.hmac_key, &packet.signed, packet.hmac, server, source),
        postage: if stamped.is_some() { Postage::Stamped } else { Postage::Plain },
    }
}

fn office() -> (UdpSocket, Desk) {
    let socket = socket(V4);
    let desk = Desk::with_server("127.0.0.1", &socket);
    (socket, desk)
}

#[test]
fn a_knock_is_sent_bound_to_the_server_and_stamped_and_said() {
    let (socket, desk) = office();
    let said = desk.siglatch(&["knock", "office", "hello", "--payload", "hi there"]).ok();
    let to = socket.local_addr().unwrap();
    let expected = format!("knocked office: hello (1) as alice (1) to {to}, bound to the server, stamped\n");
    assert_eq!(said.out, expected);
    let datagram = receive(&socket);
    assert_eq!(datagram.len(), 288);
    let seen = see(&desk, &datagram, "127.0.0.1");
    assert_eq!((seen.user, seen.action), (1, 1));
    assert_eq!(seen.payload, b"hi there");
    assert_eq!((seen.bound, seen.postage), (Some(Bound::Server), Postage::Stamped));
}

#[test]
fn a_server_whose_name_nothing_knows_is_knocked_where_its_invite_says_that_it_is() {
    let (socket, desk) = office();
    let there = "public_host = \"no.name.invalid\"\npublic_addresses = [\"127.0.0.1\"]";
    let config = desk.read("srv/siglatchd.toml").replace("public_host = \"127.0.0.1\"", there);
    desk.write("srv/siglatchd.toml", config, 0o600);
    let add = ["user", "add", "bob", "--action", "hello", "--config", "srv/siglatchd.toml"];
    desk.ctl(&[&add[..], &["--profile-name", "away"]].concat()).ok();
    desk.siglatch(&["join", "bob.invite.toml"]).ok();
    let said = desk.siglatch(&["knock", "away", "hello"]).ok();
    assert!(
        said.err.contains("cannot resolve no.name.invalid")
            && said.err.contains("its profile knows where it is"),
        "{}",
        said.err
    );
    assert_eq!(receive(&socket).len(), 288);
    // The line has them too.
    let invite = Invite::parse(&desk.read("bob.invite.toml")).unwrap();
    let line = Invite::parse(&invite.to_line().unwrap()).unwrap();
    assert_eq!(line.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_knock_is_stamped_as_the_invite_says_unless_told_otherwise() {
    let (socket, desk) = office();
    let invite = desk.read("alice.invite.toml");
    let without = |line: &str| invite.replace("stamp = true\n", line);
    desk.write("plain.toml", without("stamp = false\n"), 0o600);
    desk.write("old.toml", without(""), 0o600);
    for name in ["plain", "old"] {
        desk.siglatch(&["join", &format!("{name}.toml"), "--name", name]).ok();
    }
    let cases: [(&str, &[&str], Postage); 9] = [
        ("office", &[], Postage::Stamped),
        ("office", &["--stamp"], Postage::Stamped),
        ("office", &["--no-stamp"], Postage::Plain),
        ("plain", &[], Postage::Plain),
        ("plain", &["--stamp"], Postage::Stamped),
        ("plain", &["--no-stamp"], Postage::Plain),
        ("old", &[], Postage::Plain),
        ("old", &["--stamp"], Postage::Stamped),
        ("old", &["--no-stamp"], Postage::Plain),
    ];
    for (profile, args, postage) in cases {
        let said = desk.siglatch(&[&["knock", profile, "hello"], args].concat()).ok().out;
        assert!(said.ends_with(&format!(", bound to the server, {postage}\n")), "{said}");
        let datagram = receive(&socket);
        assert_eq!(datagram.len(), if postage == Postage::Plain { 256 } else { 288 });
        assert_eq!(see(&desk, &datagram, "::1").postage, postage, "{profile} {args:?}");
    }
    desk.siglatch(&["knock", "office", "hello", "--stamp", "--no-stamp"]).failed(64, "cannot be used with");
    assert_silent(&socket);

    let listed = desk.siglatch(&["profiles"]).ok().out;
    let words = listed.lines().map(|line| line.split_whitespace().nth(3).unwrap());
    assert_eq!(words.collect::<Vec<_>>(), ["KNOCKS", "stamped", "plain", "plain"], "{listed}");
}

#[test]
fn an_action_is_named_or_numbered() {
    let (socket, desk) = office();
    for (word, said, number) in [("hello", "hello (1)", 1), ("1", "hello (1)", 1), ("255", "255", 255)] {
        let out = desk.siglatch(&["knock", "office", word]).ok().out;
        assert!(out.starts_with(&format!("knocked office: {said} as")), "{out}");
        assert_eq!(see(&desk, &receive(&socket), "::1").action, number);
    }
    for word in ["0", "256", "hullo", "-1"] {
        let said = desk.siglatch(&["knock", "office", "--", word]);
        said.failed(64, "office has no action").failed(64, "its actions are: hello (1)");
    }
    assert_silent(&socket);
}

#[test]
fn every_knock_has_a_challenge_of_its_own() {
    let (socket, desk) = office();
    let mut challenges: Vec<u32> = (0..8)
        .map(|_| {
            desk.siglatch(&["knock", "office", "hello", "-q"]).ok();
            see(&desk, &receive(&socket), "::1").challenge
        })
        .collect();
    challenges.sort_unstable();
    challenges.dedup();
    assert_eq!(challenges.len(), 8);
}

#[test]
fn a_payload_comes_from_a_text_a_file_or_standard_input_as_it_is() {
    let (socket, desk) = office();
    let binary = b"\0\xff-\n";
    desk.write("payload", binary, 0o644);
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    let cases: [(&[&str], &[u8]); 6] = [
        (&["--payload-file", "payload"], binary),
        (&["--payload-file", "-"], b"from stdin\n"),
        (&["-"], b"from stdin\n"),
        (&["--payload", "-x"], b"-x"),
        (&["--payload", ""], b""),
        (&[], b""),
    ];
    for (args, payload) in cases {
        let args = [&["knock", "office", "hello"], args].concat();
        desk.run(siglatch, &args, b"from stdin\n").ok();
        assert_eq!(see(&desk, &receive(&socket), "::1").payload, payload, "{args:?}");
    }
    for args in [
        &["-", "--payload", "x"][..],
        &["-", "--payload-file", "payload"],
        &["--payload", "x", "--payload-file", "-"],
    ] {
        desk.siglatch(&[&["knock", "office", "hello"], args].concat()).failed(64, "payload");
    }
    assert_silent(&socket);
}

#[test]
fn a_payload_that_does_not_fit_is_refused_and_never_cut() {
    let (socket, desk) = office();
    let fits = "x".repeat(199);
    desk.siglatch(&["knock", "office", "hello", "--payload", &fits]).ok();
    assert_eq!(see(&desk, &receive(&socket), "::1").payload, fits.as_bytes());

    let long = "x".repeat(200);
    desk.write("long", &long, 0o644);
    let knock = ["knock", "office", "hello"];
    let hint = "nothing was sent";
    desk.siglatch(&[&knock[..], &["--payload", &long]].concat())
        .failed(64, "the payload has 200 bytes, a knock holds 199")
        .failed(64, hint);
    desk.siglatch(&[&knock[..], &["--payload-file", "long"]].concat()).failed(64, hint);
    desk.siglatch(&[&knock[..], &["--payload-file", "/dev/zero"]].concat()).failed(64, hint);
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    desk.run(siglatch, &[&knock[..], &["-"]].concat(), long.as_bytes()).failed(64, hint);
    desk.siglatch(&[&knock[..], &["--payload-file", "missing"]].concat())
        .failed(64, "missing: cannot read the payload");
    assert_silent(&socket);
}

#[test]
fn each_address_family_can_be_knocked() {
    let v6 = socket(V6);
    let v4 = UdpSocket::bind(("127.0.0.1", v6.local_addr().unwrap().port())).unwrap();
    v4.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let desk = Desk::with_server("localhost", &v6);
    let knock = |args: &[&str]| desk.siglatch(&[&["knock", "office", "hello"], args].concat());

    assert!(knock(&["-4"]).ok().out.contains(" to 127.0.0.1:"));
    see(&desk, &receive(&v4), "127.0.0.1");
    assert!(knock(&["--bind-address", "127.0.0.1"]).ok().out.contains(" to 127.0.0.1:"));
    see(&desk, &receive(&v4), "127.0.0.1");
    knock(&["-4", "-6"]).failed(64, "cannot be used with");
    knock(&["-6", "--bind-address", "127.0.0.1"]).failed(64, "of the other family");

    let here: Vec<_> = std::net::ToSocketAddrs::to_socket_addrs("localhost:1").unwrap().collect();
    if here.iter().any(std::net::SocketAddr::is_ipv6) {
        assert!(knock(&["-6"]).ok().out.contains(" to [::1]:"));
        see(&desk, &receive(&v6), "::1");
        let out = knock(&["--all-families"]).ok().out;
        assert_eq!(out.lines().count(), 2, "{out}");
        let (first, second) = (see(&desk, &receive(&v4), "::1"), see(&desk, &receive(&v6), "::1"));
        assert_ne!(first.challenge, second.challenge, "one challenge sent twice would be a replay");
    } else {
        println!("SKIPPED: localhost has no IPv6 address here");
        knock(&["-6"]).failed(75, "localhost has no IPv6 address");
    }
    assert_silent(&v4);
    assert_silent(&v6);
}

#[test]
fn an_ipv6_address_is_a_host() {
    let socket = socket(V6);
    let desk = Desk::with_server("::1", &socket);
    desk.siglatch(&["knock", "office", "hello"]).ok();
    see(&desk, &receive(&socket), "::1");
    desk.siglatch(&["knock", "office", "hello", "-4"]).failed(75, "::1 has no IPv4 address");
    assert!(desk.siglatch(&["profiles"]).ok().out.contains(" [::1]:"));
}

#[test]
fn a_knock_leaves_from_the_address_that_is_told() {
    let (socket, desk) = office();
    desk.siglatch(&["knock", "office", "hello", "--bind-address", "127.0.0.9"]).ok();
    let (_, from) = socket.recv_from(&mut [0; 256]).unwrap();
    assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 9]));
    desk.siglatch(&["knock", "office", "hello", "--bind-address", "192.0.2.77"])
        .failed(75, "cannot send from 192.0.2.77");
}

#[test]
fn a_knock_can_be_bound_to_its_source() {
    let (socket, desk) = office();
    let said = desk.siglatch(&["knock", "office", "hello", "--source", "127.0.0.1"]).ok();
    assert!(said.out.ends_with("bound to the server and to 127.0.0.1, stamped\n"), "{}", said.out);
    let datagram = receive(&socket);
    assert_eq!(see(&desk, &datagram, "127.0.0.1").bound, Some(Bound::Source));
    assert_eq!(see(&desk, &datagram, "127.0.0.2").bound, None);
    for any in ["::", "0.0.0.0", "localhost"] {
        desk.siglatch(&["knock", "office", "hello", "--source", any])
            .failed(64, "no IP address that a knock could come from");
    }
}

fn knock_direct(desk: &Desk, socket: &UdpSocket, more: &[&str]) -> programs::Said {
    let args = desk.direct(socket, more);
    desk.siglatch(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_server_is_knocked_without_a_profile() {
    let (socket, desk) = office();
    let to = socket.local_addr().unwrap();
    let said = knock_direct(&desk, &socket, &["7", "--payload", "x"]).ok();
    assert_eq!(said.out, format!("knocked 127.0.0.1: 7 as 1 to {to}, not bound to a server, plain\n"));
    let datagram = receive(&socket);
    assert_eq!(datagram.len(), 256, "the form of siglatch v1");
    let seen = see(&desk, &datagram, "::1");
    assert_eq!((seen.action, seen.bound, seen.postage), (7, Some(Bound::None), Postage::Plain));
    knock_direct(&desk, &socket, &["7", "--stamp"]).ok();
    let seen = see(&desk, &receive(&socket), "::1");
    assert_eq!((seen.bound, seen.postage), (Some(Bound::None), Postage::Stamped));

    let id = Invite::parse(&desk.read("alice.invite.toml")).unwrap().server_id.unwrap().to_string();
    for (more, postage) in [(&[][..], Postage::Stamped), (&["--no-stamp"], Postage::Plain)] {
        knock_direct(&desk, &socket, &[&["7", "--server-id", &id], more].concat()).ok();
        let seen = see(&desk, &receive(&socket), "::1");
        assert_eq!((seen.bound, seen.postage), (Some(Bound::Server), postage), "an id: no siglatch v1");
    }

    knock_direct(&desk, &socket, &["7", "--source", "127.0.0.1"])
        .failed(64, "--source needs the server's id");
    knock_direct(&desk, &socket, &["hello"]).failed(64, "the action is a number, 1 to 255");
    knock_direct(&desk, &socket, &["0"]).failed(64, "the action is a number, 1 to 255");
    knock_direct(&desk, &socket, &["office", "1"]).failed(64, "give one word");
    knock_direct(&desk, &socket, &["1", "--server-id", "xyz"]).failed(64, "not 32 hex digits");
    desk.siglatch(&["knock", "--host", "127.0.0.1", "1"]).failed(64, "--hmac-key <FILE>");
    desk.siglatch(&["knock", "office", "1", "--port", "1"]).failed(64, "--host");
    assert_silent(&socket);
}

#[test]
fn a_key_that_others_can_read_or_exchange_is_refused() {
    let (socket, desk) = office();
    let hex = desk.read("srv/keys/alice.hmac");
    desk.write("srv/keys/alice.hmac", &hex, 0o640);
    knock_direct(&desk, &socket, &["1"])
        .failed(78, "alice.hmac is readable by its group (mode 0640)")
        .failed(78, "hint: chmod 600");
    desk.write("srv/keys/alice.hmac", "0".repeat(64), 0o600);
    knock_direct(&desk, &socket, &["1"]).failed(78, "alice.hmac: the key is all zero");
    desk.write("srv/keys/alice.hmac", "abc", 0o600);
    knock_direct(&desk, &socket, &["1"]).failed(78, "32 raw bytes or 64 hex digits");
    desk.write("srv/keys/alice.hmac", &hex, 0o600);
    desk.write("srv/server.pub.pem", "no PEM", 0o644);
    knock_direct(&desk, &socket, &["1"]).failed(78, "server.pub.pem: no RSA public key");

    desk.write("open/keys", &hex, 0o600);
    let chmod = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(desk.path("open"), chmod).unwrap();
    let key = desk.path("open/keys");
    let mut args = desk.direct(&socket, &["1"]);
    *args.iter_mut().find(|arg| arg.ends_with("alice.hmac")).unwrap() = key.to_str().unwrap().to_owned();
    desk.siglatch(&args.iter().map(String::as_str).collect::<Vec<_>>())
        .failed(78, "open is writable by its group and others (mode 0777)");
    assert_silent(&socket);
}

#[test]
fn a_profile_that_others_can_read_is_refused() {
    let (socket, desk) = office();
    let profile = "home/.config/siglatch/office.toml";
    assert_eq!((desk.mode(profile), desk.mode("home/.config/siglatch")), (0o600, 0o700));
    let text = desk.read(profile);
    desk.write(profile, &text, 0o604);
    desk.siglatch(&["knock", "office", "hello"]).failed(78, "office.toml is readable by others (mode 0604)");
    assert_silent(&socket);
}

#[test]
fn what_was_sent_can_be_kept_to_be_sent_again() {
    let (socket, desk) = office();
    let knock = ["knock", "office", "hello", "--save", "datagram"];
    desk.siglatch(&knock).ok();
    let datagram = receive(&socket);
    assert_eq!(std::fs::read(desk.path("datagram")).unwrap(), datagram);
    assert_eq!(desk.mode("datagram"), 0o600);
    desk.siglatch(&knock).failed(78, "datagram is there already").failed(78, "nothing was sent");
    assert_silent(&socket);
}

#[test]
fn quiet_says_nothing_and_verbose_says_more() {
    let (socket, desk) = office();
    let said = desk.siglatch(&["knock", "-q", "office", "hello"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    receive(&socket);

    let out = desk.siglatch(&["knock", "-v", "office", "hello", "--payload", "hi"]).ok().out;
    let datagram = receive(&socket);
    let seen = see(&desk, &datagram, "::1");
    // Of the sealed packet: whoever takes the stamp off changes no name in the log.
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&datagram[..256]);
    let id = siglatch::wire::KnockId::of(digest.into());
    assert!(out.contains(&format!("knock {id}, timestamp ")), "{out}");
    assert!(out.contains(&format!("challenge {:#010x}, payload of 2 bytes", seen.challenge)), "{out}");
    desk.siglatch(&["knock", "-q", "-v", "office", "hello"]).failed(64, "cannot be used with");
}

#[test]
fn an_unreachable_server_is_an_error_that_may_pass() {
    let (socket, desk) = office();
    let to = |host: &str| {
        let mut args = desk.direct(&socket, &["1"]);
        host.clone_into(&mut args[2]);
        desk.siglatch(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    to("no-such-host.invalid").failed(75, "cannot resolve no-such-host.invalid");
    to("255.255.255.255").failed(75, "cannot send to 255.255.255.255");
    to("-h").failed(64, "");
    to("a b").failed(64, "no host name and no IP address");
    assert_silent(&socket);
}

#[test]
fn profiles_are_listed_and_broken_ones_named() {
    let (_socket, desk) = office();
    let listed = desk.siglatch(&["profiles"]).ok().out;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PROFILE", "USER", "SERVER", "KNOCKS", "ACTIONS"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][4]), ("office", "alice", "hello"));

    desk.write("home/.config/siglatch/lab.toml", "siglatch = 7", 0o600);
    desk.write("home/.config/siglatch/loose.toml", "", 0o644);
    desk.write("home/.config/siglatch/README", "no profile", 0o644);
    let said = desk.siglatch(&["profiles"]);
    assert_eq!((said.code, &said.out), (78, &listed), "the good ones are listed all the same");
    assert!(said.err.contains("lab.toml: `siglatch` = 7: this program reads version 1"), "{}", said.err);
    assert!(said.err.contains("loose.toml is readable by"), "{}", said.err);
    assert_eq!(said.err.matches("error: ").count(), 2);
}

#[test]
fn without_profiles_the_way_to_one_is_said() {
    let desk = Desk::new();
    assert!(desk.siglatch(&["profiles"]).ok().out.contains("siglatch join FILE"));
    desk.siglatch(&["knock", "office", "ssh"])
        .failed(78, "no profile \"office\" in ")
        .failed(78, "siglatch join FILE");
    let (_socket, desk) = office();
    for name in ["home", "../office", "", ".", "office.toml"] {
        desk.siglatch(&["knock", name, "ssh"]).failed(78, "the profiles are: office");
    }
}

#[test]
fn an_invite_is_installed_once_under_its_name_or_another() {
    let (_socket, desk) = office();
    let profile = "home/.config/siglatch/office.toml";
    let before = desk.read(profile);
    desk.write("second.toml", desk.read("alice.invite.toml").replace("\"alice\"", "\"eve\""), 0o600);
    desk.siglatch(&["join", "second.toml"]).failed(78, "office.toml is there already").failed(78, "--force");
    assert_eq!(desk.read(profile), before);

    let said = desk.siglatch(&["join", "second.toml", "--name", "lab"]).ok();
    assert!(said.out.contains("next: siglatch knock lab hello\n"), "{}", said.out);
    desk.siglatch(&["join", "second.toml", "--force"]).ok();
    assert!(desk.read(profile).contains("\"eve\""));
    desk.siglatch(&["join", "second.toml", "--name", "../lab"]).failed(64, "a name is 1 to 64");
    assert_eq!(programs::names(&desk.path("home/.config/siglatch")), ["lab.toml", "office.toml"]);
}

#[test]
fn an_invite_comes_from_standard_input_too() {
    let (_socket, desk) = office();
    let invite = desk.read("alice.invite.toml");
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    desk.run(siglatch, &["join", "-", "--name", "piped"], invite.as_bytes()).ok();
    assert!(desk.siglatch(&["profiles"]).ok().out.contains("\npiped "));
}

#[test]
fn a_hostile_invite_installs_nothing() {
    let (_socket, desk) = office();
    let good = desk.read("alice.invite.toml");
    let cases = [
        good.replace("\"office\"", "\"../../x\""),
        good.replace("\"office\"", "\"a\\u0000b\""),
        good.replace("\"alice\"", "\"\\u001b]0;pwned\\u0007\""),
        good.replace("\"hello\"", "\"hel lo\""),
        format!("{good}\n{}", "#".repeat(16 * 1024)),
        good.replace("siglatch = 1", "siglatch = 1\nrun = \"rm\""),
        format!("x = {}", "[".repeat(16_000)),
        String::new(),
        "\u{0}".to_owned(),
    ];
    std::fs::remove_file(desk.path("home/.config/siglatch/office.toml")).unwrap();
    for text in &cases {
        desk.write("hostile.toml", text, 0o600);
        let said = desk.siglatch(&["join", "hostile.toml"]).failed(78, "hostile.toml");
        assert!(!said.err.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{:?}", said.err);
        let piped = desk.run(env!("CARGO_BIN_EXE_siglatch"), &["join", "-"], text.as_bytes());
        piped.failed(78, "standard input: ");
    }
    desk.run(env!("CARGO_BIN_EXE_siglatch"), &["join", "-"], b"\xff\xfe").failed(78, "is no text");
    assert_eq!(programs::names(&desk.path("home/.config/siglatch")), [""; 0]);
    desk.siglatch(&["join", "missing.toml"]).failed(78, "missing.toml is not there");
}

/// The options in front of a payload, WIRE.md.
fn with_code(code: &str, payload: &str) -> Vec<u8> {
    [b"\0SLO\x01\x01\x02\x06", code.as_bytes(), payload.as_bytes()].concat()
}

#[test]
fn a_code_stands_in_front_of_the_payload() {
    let (socket, desk) = office();
    for (given, payload) in [("123456", "hi"), ("123 456", "")] {
        let said = desk.siglatch(&["knock", "office", "hello", "--totp", given, "--payload", payload]).ok();
        assert!(!said.out.contains("123456") && !said.out.contains(given), "{}", said.out);
        assert_eq!(see(&desk, &receive(&socket), "127.0.0.1").payload, with_code("123456", payload));
    }
    for wrong in ["12345", "1234567", "12345a", "", "\u{661}23456"] {
        let said = desk.siglatch(&["knock", "office", "hello", "--totp", wrong]);
        assert_eq!(said.code, 64, "{wrong}: {said:?}");
    }
    let long = "x".repeat(186);
    desk.siglatch(&["knock", "office", "hello", "--totp", "123456", "--payload", &long])
        .failed(64, "options and payload are longer");
    assert_silent(&socket);
}

#[test]
fn a_code_is_asked_for_at_the_terminal_and_not_shown() {
    let (socket, desk) = office();
    let profile = desk.read("home/.config/siglatch/office.toml");
    let asking = profile.replace("\"hello\" = 1", "\"hello\" = { id = 1, totp = true }");
    assert_ne!(asking, profile);
    desk.write("home/.config/siglatch/office.toml", asking, 0o600);
    let siglatch = env!("CARGO_BIN_EXE_siglatch");
    // A session of its own has no terminal.
    desk.run("setsid", &["--wait", siglatch, "knock", "office", "hello"], b"123456\n")
        .failed(64, "give it with --totp CODE");
    let typed =
        |keys: &str| desk.at_terminal(&format!("{siglatch} knock office hello"), "code for office: ", keys);
    let said = typed("12x\u{7f}3456\r");
    assert!(said.out.contains("knocked office") && !said.out.contains("3456"), "{said:?}");
    assert_eq!(see(&desk, &receive(&socket), "127.0.0.1").payload, with_code("123456", ""));
    for (keys, told) in [("\u{3}", "no code was given"), ("1234\r", "a code has six digits")] {
        let said = typed(keys);
        assert!(said.out.contains(told), "{said:?}");
    }
    assert_silent(&socket);
}

#[test]
fn help_names_every_command_and_usage_errors_end_with_64() {
    let desk = Desk::new();
    let help = desk.siglatch(&["--help"]).ok().out;
    for command in ["knock", "join", "profiles"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
        assert!(desk.siglatch(&[command, "--help"]).ok().out.contains(&format!("Usage: siglatch {command}")));
    }
    assert!(desk.siglatch(&["--version"]).ok().out.starts_with("siglatch "));
    for args in [
        &[][..],
        &["knokc"],
        &["knock"],
        &["knock", "a"],
        &["knock", "a", "b", "c"],
        &["join"],
        &["knock", "--no"],
    ] {
        let said = desk.siglatch(args);
        assert_eq!((said.code, said.out.as_str()), (64, ""), "{args:?}");
    }
}

#[test]
fn a_key_in_raw_bytes_is_a_key() {
    let (socket, desk) = office();
    let key = HmacKey::parse(desk.read("srv/keys/alice.hmac").as_bytes()).unwrap();
    desk.write("srv/keys/alice.hmac", key.bytes(), 0o600);
    knock_direct(&desk, &socket, &["1"]).ok();
    assert_eq!(see(&desk, &receive(&socket), "::1").bound, Some(Bound::None));
}

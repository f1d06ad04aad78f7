//! A second opinion on sealing, MAC and stamp: the `openssl` command line, both ways.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may"
)]

mod programs;

use std::net::IpAddr;

use programs::{Desk, receive, socket};
use siglatch::wire::{Bound, Invite, Packet, UserId, mac};

const SOURCE: &str = "192.0.2.1";

/// WIRE "v1", "Binding" and "Stamp", in shell. $1 is `open`, `seal` or `stamp`, $2 the key in hex, $3 the suffix in hex.
const SHELL: &str = r#"
set -eu
unhex() { printf "$(printf %s "$1" | sed 's/../\\x&/g')"; }
mac() { # of the packet in plain, payload of 5 bytes
    { head -c 12 plain; tail -c +45 plain | head -c 7; unhex "$2"; } > signed
    openssl dgst -sha256 -binary signed > digest
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary digest
}
case $1 in
open)
    openssl pkeyutl -decrypt -inkey srv/server.key.pem -pkeyopt rsa_padding_mode:pkcs1 -in sealed -out plain
    mac "$2" "$3" > theirs
    tail -c +13 plain | head -c 32 > ours
    cmp ours theirs
    tail -c +45 plain | head -c 7 | od -An -tx1
    ;;
seal)
    # version 1, timestamp 1795219667, user 1, action 3, challenge 0x04030201, no MAC yet, "hello", zeros
    { unhex 01d3e0006b01000301020304; head -c 32 /dev/zero; unhex 0500; printf hello; head -c 194 /dev/zero; } > plain
    mac "$2" "$3" > theirs
    { head -c 12 plain; cat theirs; tail -c +45 plain; } > packet
    openssl pkeyutl -encrypt -pubin -inkey srv/server.pub.pem -pkeyopt rsa_padding_mode:pkcs1 -in packet -out sealed
    ;;
stamp) # of user 1, on what was opened
    hex() { od -An -v -tx1 | tr -d ' \n'; }
    hkdf() { # of key, salt, info
        openssl kdf -keylen 32 -kdfopt digest:SHA2-256 -kdfopt "hexkey:$1" -kdfopt "hexsalt:$2" -kdfopt "info:$3" -binary HKDF | hex
    }
    hmac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary | head -c "$2"; }
    openssl pkey -pubin -in srv/server.pub.pem -outform DER -out spki
    # HKDF without a salt has a hash of zeros for one.
    beacon=$(hkdf "$(hex < spki)" "$(printf %064d 0)" "siglatch beacon 1")
    stamp=$(hkdf "$2" "$(openssl dgst -sha256 -binary spki | hex)" "siglatch stamp 1")
    epoch=$(printf %016x $(($(od -An -tu4 --endian=little -j1 -N4 plain) / 64)))
    { cat sealed; unhex "$epoch" | hmac "$beacon" 8; { printf hint; unhex "0001$epoch"; } | hmac "$stamp" 8; } > tagged
    { cat tagged; { printf tag; cat tagged; } | hmac "$stamp" 16; } > theirs
    cmp datagram theirs
    wc -c < theirs
    ;;
esac
"#;

/// A server, alice's key in hex, and the suffix of each binding in hex.
struct Opinion {
    desk: Desk,
    invite: Invite,
    suffixes: [(Bound, String); 3],
}

impl Opinion {
    /// `None`, and loudly so: there is no `openssl` here.
    fn ask(desk: Desk) -> Option<Opinion> {
        if desk.run("/bin/sh", &["-c", "command -v openssl"], b"").code != 0 {
            println!("SKIPPED: no `openssl` on this machine, nobody gave a second opinion");
            return None;
        }
        let invite = Invite::parse(&desk.read("alice.invite.toml")).unwrap();
        let id = invite.server_id.unwrap();
        let suffixes = [
            (Bound::None, String::new()),
            (Bound::Server, format!("534c4231{id}{}", "00".repeat(16))),
            (Bound::Source, format!("534c4231{id}{}ffffc0000201", "00".repeat(10))),
        ];
        Some(Opinion { desk, invite, suffixes })
    }

    fn shell(&self, verb: &str, suffix: &str) -> String {
        let key = self.invite.hmac_key.to_hex();
        // bash: the printf of dash knows no \x.
        self.desk.run("/bin/bash", &["-c", SHELL, "openssl", verb, &key, suffix], b"").ok().out
    }
}

#[test]
fn openssl_opens_and_verifies_what_siglatch_knocks() {
    let socket = socket("127.0.0.1:0");
    let Some(opinion) = Opinion::ask(Desk::with_server("127.0.0.1", &socket)) else {
        return;
    };
    let plain = opinion.desk.direct(&socket, &["1"]);
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    let targets: [&[&str]; 3] =
        [&plain, &["knock", "office", "hello"], &["knock", "office", "hello", "--source", SOURCE]];
    for (target, (bound, suffix)) in targets.iter().zip(&opinion.suffixes) {
        opinion.desk.siglatch(&[*target, &["--payload", "hello"]].concat()).ok();
        let datagram = receive(&socket);
        opinion.desk.write("sealed", &datagram[..256], 0o600);
        let payload = opinion.shell("open", suffix);
        assert_eq!(payload.trim(), "05 00 68 65 6c 6c 6f", "{bound}");
        if *bound != Bound::None {
            opinion.desk.write("datagram", &datagram, 0o600);
            assert_eq!(opinion.shell("stamp", "").trim(), "288");
        }
    }
}

#[test]
fn what_openssl_signs_and_seals_is_opened_and_verified() {
    let socket = socket("127.0.0.1:0");
    let Some(opinion) = Opinion::ask(Desk::with_server("127.0.0.1", &socket)) else {
        return;
    };
    let Opinion { desk, invite, suffixes } = &opinion;
    for (expected, suffix) in suffixes {
        opinion.shell("seal", suffix);
        let plain = desk.open(&std::fs::read(desk.path("sealed")).unwrap());
        let packet = Packet::decode(&plain).unwrap();
        assert_eq!((packet.timestamp, packet.user), (1_795_219_667, UserId(1)));
        assert_eq!((packet.action, packet.challenge, packet.payload), (3, 0x0403_0201, &b"hello"[..]));
        let source: IpAddr = SOURCE.parse().unwrap();
        let server = invite.server_id.unwrap();
        let bound = mac::verify(&invite.hmac_key, &packet.signed, packet.hmac, server, source);
        assert_eq!(bound, Some(*expected));
    }
}

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::keys::{Key, ages};
use super::machine::Space;
use super::{Level, boot, daemon};
use crate::control::status::{Reload, Status, Warning};

#[test]
fn drops_for_want_of_room_are_told_and_those_of_the_filter_are_none() {
    let mut status = Status::default();
    let level = |status: &Status, lost| daemon::drops(status, lost).unwrap().level;
    assert_eq!(level(&status, 7), Level::Good, "others lose, we do not");
    status.counts.kernel_drops = 9;
    assert_eq!(level(&status, 0), Level::Good);
    assert_eq!(level(&status, 7), Level::Doubt);
}

#[test]
fn the_kernels_own_tables_say_what_found_a_full_buffer() {
    let snmp = "Ip: a b\nIp: 1 2\nUdp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 9 40 1\nUdpLite: RcvbufErrors\nUdpLite: 5\n";
    let snmp6 = "Ip6InReceives   \t3\nUdp6RcvbufErrors                \t2\n";
    assert_eq!(daemon::room_errors_in(snmp, snmp6), 42);
    for (snmp, snmp6) in
        [("", ""), ("Udp: RcvbufErrors\n", "Udp6RcvbufErrors\n"), ("Udp: RcvbufErrors\nUdp: x", "")]
    {
        assert_eq!(daemon::room_errors_in(snmp, snmp6), 0);
    }
}

#[test]
fn a_full_disk_is_bad_and_one_that_fills_up_is_doubted() {
    let of = |bytes, files| Space { bytes, files }.examine(Path::new("/x"));
    let cases = [
        (0, None, Level::Bad),
        (15 << 20, Some(1000), Level::Bad),
        (16 << 20, None, Level::Doubt),
        (128 << 20, Some(10), Level::Good),
        (128 << 20, Some(9), Level::Bad),
    ];
    for (bytes, files, level) in cases {
        let finding = of(bytes, files);
        assert_eq!((finding.level, finding.mend.is_empty()), (level, level == Level::Good), "{finding}");
    }
}

#[test]
fn old_keys_are_named_each_with_its_remedy_and_the_others_counted() {
    let dir = tempfile::tempdir().unwrap();
    let key = |name: &str, mend: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, "").unwrap();
        Key { file, exchanged: None, mend: mend.to_owned() }
    };
    let keys = [
        key("a", "renew a"),
        key("b", "renew b"),
        Key { file: dir.path().join("gone"), exchanged: None, mend: String::new() },
    ];
    let now = crate::clock::wall();
    let found = ages(&keys, now);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("young enough: 2, the oldest 0 days"), "{found:?}");
    let found = ages(&keys, now + Duration::from_secs(731 * 86_400));
    let told: Vec<_> = found.iter().map(|finding| (finding.level, finding.mend.as_str())).collect();
    assert_eq!(told, [(Level::Doubt, "renew a"), (Level::Doubt, "renew b")]);
}

#[test]
fn what_keeps_the_daemon_from_its_work_is_bad_and_the_rest_to_be_looked_at() {
    let warning =
        |code: &str| Warning { code: code.to_owned(), what: code.to_owned(), hint: "mend".to_owned() };
    let mut status = Status { version: env!("CARGO_PKG_VERSION").to_owned(), ..Status::default() };
    assert_eq!(daemon::examine(&status).len(), 1);
    status.warnings = vec![warning("store-failing"), warning("unsaved")];
    status.listener.restarts = 1;
    status.config.last_reload = Some(Reload { at: 1, failed: None });
    status.config.pending = vec!["limits.workers = 4".to_owned()];
    let levels: Vec<_> = daemon::examine(&status).iter().map(|finding| finding.level).collect();
    assert_eq!(levels, [Level::Good, Level::Doubt, Level::Doubt, Level::Bad, Level::Doubt]);
    status.version = "0.0.1".to_owned();
    assert!(daemon::examine(&status)[1].what.contains("runs as 0.0.1"));
}

#[test]
fn rules_that_a_reboot_would_not_bring_back_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let write = |name: &str, text: &str| {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let doors = BTreeSet::from(["siglatch"]);
    let found = || {
        boot::look(root, &doors).into_iter().map(|finding| (finding.level, finding.mend)).collect::<Vec<_>>()
    };
    let missing = |found: Vec<(Level, String)>| {
        found.len() == 1
            && found[0].0 == Level::Doubt
            && found[0].1.contains("include \"/etc/siglatch/*.nft\"")
    };
    assert!(missing(found()));
    write("etc/nftables.conf", "#!/usr/sbin/nft -f\n# siglatch\nflush ruleset\ninclude \"siglatch/*.nft\"\n");
    assert!(missing(found()), "the pattern matches no file");
    write("etc/siglatch/doors.nft", "table inet siglatch {\n}\n");
    assert_eq!(found(), [(Level::Good, String::new())]);
    write("run/systemd/system/x", "");
    assert_eq!(found(), [(Level::Doubt, "systemctl enable nftables".to_owned())]);
    write("etc/systemd/system/sysinit.target.wants/nftables.service", "");
    assert_eq!(found(), [(Level::Good, String::new())]);
    write("etc/nftables.conf", "include \"nftables.conf\"\n");
    assert!(missing(found()), "a file that includes itself");
    write("etc/nftables.conf", "include \"a*/b*.nft\"\n");
    assert_eq!(found(), [(Level::Good, String::new())], "what cannot be told is not doubted");
}

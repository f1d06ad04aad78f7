//! The audit trail of the real daemon: what is in it, that it stays whole, and that whoever changes it is found out.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use siglatch::audit::{Chain, Entry, Event, Head, Link};

use crate::common::{Site, field, knock, until};

/// Runs siglatchctl on this site.
fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

/// What it says when all is well.
fn said(site: &Site, args: &[&str]) -> String {
    let output = ctl(site, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when something is wrong, with exit code 78.
fn wrong(site: &Site, args: &[&str]) -> String {
    let output = ctl(site, args);
    assert_eq!(output.status.code(), Some(78), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn records(site: &Site) -> Vec<serde_json::Value> {
    let text = said(site, &["audit", "show", "--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(site: &Site) -> Vec<String> {
    records(site).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
}

fn whole(site: &Site) {
    let verified = said(site, &["audit", "verify"]);
    assert!(verified.starts_with("whole: records 1 to "), "{verified}");
}

fn trail(site: &Site) -> PathBuf {
    site.path("state/audit.jsonl")
}

/// Alice knocks so often, each time with a payload.
fn knocked(site: &Site, daemon: &mut crate::common::Daemon, times: usize) {
    let before = site.runs();
    for number in 0..times {
        let payload = format!("secret {number}");
        let binding = siglatch::wire::Binding::Server(site.server_id);
        daemon.send(&site.sealed(&knock(1, payload.as_bytes()), binding));
        until("a run", || (site.runs() > before + number).then_some(()));
    }
    daemon.wait_count("the ends", times, |line| line.contains("code=finished"));
}

#[test]
fn each_decision_is_a_record_and_a_copy_is_one_too() {
    let mut site = Site::new().with_run();
    site.user("bob", 2, &[], "");
    let mut daemon = site.start();
    let hello = knock(1, b"hello");
    let binding = siglatch::wire::Binding::Server(site.server_id);
    daemon.send(&site.sealed(&hello, binding));
    daemon.wait("the end", |line| line.contains("code=finished"));
    // Sealed once more: the listener drops what is the same to the byte.
    daemon.send(&site.sealed(&hello, binding));
    let copy = daemon.wait("the refusal", |line| line.contains("code=replay"));
    daemon.send(&site.sealed(&knock(9, b""), siglatch::wire::Binding::None));
    let refused = daemon.wait("another refusal", |line| line.contains("code=action-unknown"));
    daemon.stop();
    let expected = [
        "key-made",
        "started",
        "claimed",
        "ran",
        "finished",
        "refused",
        "claimed",
        "refused",
        "stopped",
        "checkpoint",
    ];
    assert_eq!(kinds(&site), expected);
    let records = records(&site);
    let claimed = &records[2];
    for (name, value) in
        [("user", "alice"), ("action", "run"), ("from", "127.0.0.1"), ("bound", "server"), ("lane", "plain")]
    {
        assert_eq!(claimed[name], value);
    }
    assert!(claimed["payload"].is_null() && claimed["payload_mac"].as_str().unwrap().len() == 64);
    assert_eq!(claimed["knock"], records[3]["knock"]);
    assert_eq!(records[4]["rc"], 0);
    assert_eq!((&records[5]["reason"], &records[7]["reason"]), (&"replay".into(), &"action-unknown".into()));
    assert_eq!((&records[6]["action"], &records[6]["bound"]), (&"9".into(), &"none".into()));
    whole(&site);

    // The story of each knock.
    let ran = said(&site, &["explain", claimed["knock"].as_str().unwrap()]);
    assert!(ran.contains("authentic and fresh") && ran.contains("its script was started"), "{ran}");
    let copy = said(&site, &["explain", &field(&copy, "knock").unwrap()]);
    assert!(copy.contains("the check of its nonce: the nonce came before"), "{copy}");
    let denied = said(&site, &["explain", &field(&refused, "knock").unwrap()]);
    assert!(denied.contains("the configuration: no action has this id"), "{denied}");
    let history = said(&site, &["history", "--user", "alice", "--since", "1h"]);
    for words in ["ran, rc 0", "refused: replay", "refused: action-unknown"] {
        assert!(history.contains(words), "{history}");
    }
    assert_eq!(said(&site, &["history", "--user", "bob", "--json"]), "[]\n");
    assert_eq!(ctl(&site, &["explain", "0000000000000000"]).status.code(), Some(75));
}

#[test]
fn payloads_are_recorded_as_they_are_where_that_is_wanted() {
    let mut site = Site::new().with_run();
    site.top += "audit_payload = true\n";
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.stop();
    let records = records(&site);
    let claimed = records.iter().find(|record| record["kind"] == "claimed").unwrap();
    assert_eq!((&claimed["payload"], &claimed["payload_mac"]), (&"c2VjcmV0IDA=".into(), &().into()));
}

#[test]
fn a_second_factor_is_in_no_record() {
    let mut site = Site::new().with_run();
    site.top += "audit_payload = true\n";
    let daemon = site.start();
    // An option where the action takes none: it is payload there, and hidden all the same.
    let payload = b"\0SLO\x01\x01\x02\x06123456";
    daemon.send(&site.sealed(&knock(1, payload), siglatch::wire::Binding::Server(site.server_id)));
    until("a record", || kinds(&site).contains(&"claimed".to_owned()).then_some(()));
    daemon.stop();
    for file in ["state/audit.jsonl", "state/claims.db"] {
        let bytes = fs::read(site.path(file)).unwrap();
        let holds = |code: &[u8]| bytes.windows(code.len()).any(|window| window == code);
        assert!(!holds(b"123456") && !holds(b"MTIzNDU2") && !holds(b"U0xPAQ"), "{file}");
    }
}

#[test]
fn leases_administrators_and_reloads_are_recorded() {
    let mut site = Site::new().with_door("1h", "");
    site.top += "reply = \"never\"\n";
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("a lease", |line| line.contains("code=lease-began"));
    daemon.wait("the end of its script", |line| line.contains("code=finished"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait("a reload", |line| line.contains("code=reloaded"));
    let config = site.path("siglatchd.toml");
    let good = fs::read(&config).unwrap();
    fs::write(&config, "nonsense").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait("a reload that fails", |line| line.contains("code=reload-failed"));
    fs::write(&config, good).unwrap();
    assert_eq!(said(&site, &["revoke", "--all"]), "1 lease revoked\n");
    daemon.wait("the door closed", |line| line.contains("code=undo-finished"));
    daemon.stop();
    let kinds = kinds(&site);
    for kind in
        ["lease-began", "reloaded", "reload-failed", "admin", "lease-ended", "undo-started", "undo-finished"]
    {
        assert!(kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
    }
    let lease = records(&site).into_iter().find(|record| record["kind"] == "lease-began").unwrap();
    let trace = said(&site, &["audit", "show", "--trace", lease["lease"].as_str().unwrap()]);
    assert_eq!(trace.lines().count(), 7, "{trace}");
    whole(&site);
}

#[test]
fn copies_of_one_knock_do_not_fill_the_trail_and_are_counted() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let knock = knock(1, b"");
    let binding = siglatch::wire::Binding::Server(site.server_id);
    daemon.send(&site.sealed(&knock, binding));
    daemon.wait("the end", |line| line.contains("code=finished"));
    for _ in 0..50 {
        daemon.send(&site.sealed(&knock, binding));
    }
    daemon.wait_count("lines", 20, |line| line.contains("code=replay"));
    let stopped = daemon.stop();
    let records = records(&site);
    let refused = records.iter().filter(|record| record["kind"] == "refused").count() as u64;
    let more: u64 = records
        .iter()
        .filter(|record| record["kind"] == "refused-more")
        .map(|record| record["count"].as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(refused <= 21, "{refused}");
    assert_eq!(refused + more, stopped.count("replay"));
}

#[test]
fn the_chain_goes_on_over_a_kill_at_every_step_and_nothing_runs_unrecorded() {
    let steps = [
        "store-claim-before-commit",
        "store-claim-after-commit",
        "store-claim-before-reply",
        "audit-before-file",
        "audit-after-file",
        "audit-signed",
        "store-audit-before-commit:3",
        "store-audit-after-commit:3",
        "keeper-claimed",
        "keeper-started",
        "store-close-before",
    ];
    for step in steps {
        let mut site = Site::new().with_run();
        site.tables += "\n[audit]\ncheckpoint_records = 2\n";
        let daemon = site.start_with(|command| {
            command.env("SIGLATCH_CRASH_AT", step);
        });
        daemon.send(&site.datagram());
        if step == "store-close-before" {
            until("a run", || (site.runs() == 1).then_some(()));
            daemon.signal(Signal::SIGTERM);
        }
        println!("{step}");
        assert_eq!(daemon.ended().status.signal(), Some(9), "{step} is never reached");
        // As it is, and after the next start.
        let runs = site.runs();
        let claimed = |kinds: &[String]| kinds.iter().filter(|kind| *kind == "claimed").count();
        assert!(claimed(&kinds(&site)) >= runs, "{step}");
        whole(&site);
        let mut daemon = site.start();
        knocked(&site, &mut daemon, 1);
        daemon.stop();
        assert!(claimed(&kinds(&site)) > runs, "{step}");
        whole(&site);
        said(&site, &["audit", "verify", trail(&site).to_str().unwrap()]);
    }
}

#[test]
fn a_machine_that_crashes_leaves_a_chain_that_goes_on() {
    type Change = fn(&Site, &Path);
    let ways: [(&str, Change); 6] = [
        ("the file has less", |site, old| _ = fs::copy(old.join("audit.jsonl"), trail(site)).unwrap()),
        ("the file has nothing", |site, _| fs::write(trail(site), "").unwrap()),
        ("the file is gone", |site, _| fs::remove_file(trail(site)).unwrap()),
        ("half a line", |site, _| {
            let text = fs::read(trail(site)).unwrap();
            fs::write(trail(site), &text[..text.len() - 30]).unwrap();
        }),
        ("zeros behind it", |site, _| {
            let text = fs::read(trail(site)).unwrap();
            fs::write(trail(site), [text, vec![0; 5000]].concat()).unwrap();
        }),
        ("the store has less", |site, old| {
            for file in ["claims.db", "claims.db-wal", "claims.db-shm"] {
                fs::remove_file(site.path("state").join(file)).ok();
                fs::copy(old.join(file), site.path("state").join(file)).ok();
            }
        }),
    ];
    for (way, change) in ways {
        let site = Site::new().with_run();
        let mut daemon = site.start();
        knocked(&site, &mut daemon, 2);
        daemon.signal(Signal::SIGKILL);
        daemon.ended();
        let old = site.path("old");
        assert!(
            Command::new("cp").arg("-a").args([site.path("state"), old.clone()]).status().unwrap().success()
        );
        let mut daemon = site.start();
        knocked(&site, &mut daemon, 2);
        // The file follows the store after a moment.
        let filed = || fs::read_to_string(trail(&site)).unwrap().matches("\"kind\":\"claimed\"").count();
        until("the file", || (filed() == 4).then_some(()));
        daemon.signal(Signal::SIGKILL);
        daemon.ended();
        change(&site, &old);
        let daemon = site.start();
        daemon.stop();
        whole(&site);
        said(&site, &["audit", "verify", trail(&site).to_str().unwrap()]);
        assert_eq!(kinds(&site).iter().filter(|kind| *kind == "claimed").count(), 4, "{way}");
    }
}

#[test]
fn files_change_with_their_size_and_the_chain_goes_on_over_them() {
    let mut site = Site::new().with_run();
    site.tables += "\n[audit]\nrotate_size = \"4KiB\"\ncheckpoint_records = 5\n";
    for _ in 0..4 {
        let mut daemon = site.start();
        knocked(&site, &mut daemon, 6);
        daemon.stop();
    }
    whole(&site);
    let mut files: Vec<PathBuf> = fs::read_dir(site.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    // Archived, and the daemon goes on.
    let archived = site.path("archived.jsonl");
    fs::rename(&files[0], &archived).unwrap();
    let verified = said(&site, &["audit", "verify"]);
    assert!(verified.contains("what came before record"), "{verified}");
    files[0] = archived;
    let names: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    said(&site, &[&["audit", "verify"], names.as_slice()].concat());
    fs::remove_file(&files[2]).unwrap();
    let names: Vec<&str> = [0, 1, 3].iter().map(|at| files[*at].to_str().unwrap()).collect();
    assert!(wrong(&site, &[&["audit", "verify"], names.as_slice()].concat()).contains("were removed"));
}

#[test]
fn who_changes_the_trail_is_found_out() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 3);
    let stopped = daemon.stop();
    let head = said(&site, &["audit", "head"]);
    let told = stopped.log.iter().rev().find(|line| line.contains("code=audit-head")).unwrap();
    assert_eq!(field(told, "head").unwrap(), head.trim());
    said(&site, &["audit", "verify", "--head", head.trim()]);

    let text = fs::read_to_string(trail(&site)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let file = site.path("changed.jsonl");
    let verify = |lines: &[&str]| {
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        wrong(&site, &["audit", "verify", file.to_str().unwrap()])
    };
    let other = lines[3].replace("alice", "malory");
    let changed = verify(&[&lines[..3], &[other.as_str()], &lines[4..]].concat());
    assert!(
        changed.contains("record 4 was changed (") && changed.contains("changed.jsonl, line 4)"),
        "{changed}"
    );
    assert!(verify(&[&lines[..3], &lines[4..]].concat()).contains("record 4 was removed"));
    assert!(verify(&[&lines[..5], &lines[2..]].concat()).contains("a record with the number 3 was inserted"));
    let swapped = [&lines[..3], &[lines[4], lines[3]], &lines[5..]].concat();
    assert!(verify(&swapped).contains("record 4 was moved"));
    // Cut off: the lines that are left are whole, the head that was kept tells of more.
    fs::write(&file, lines[..4].join("\n") + "\n").unwrap();
    let cut = wrong(&site, &["audit", "verify", file.to_str().unwrap(), "--head", head.trim()]);
    assert!(cut.contains("record 5 and those behind it were cut off"), "{cut}");
    // Another key.
    let foreign = wrong(
        &site,
        &["audit", "verify", "--key", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"],
    );
    assert!(foreign.contains("is signed by a key that is not trusted"), "{foreign}");
    // In the place where the daemon goes on: what the store holds tells that it is another file.
    fs::write(trail(&site), text.replace("\"rc\":0", "\"rc\":1")).unwrap();
    assert!(wrong(&site, &["audit", "verify"]).contains("was changed"));
}

#[test]
fn a_third_party_verifies_a_bundle_with_either_program() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 3);
    daemon.stop();
    let key = said(&site, &["audit", "key"]);
    let bundle = site.path("bundle.tar");
    said(&site, &["audit", "export", "--since", "1d", "--out", bundle.to_str().unwrap()]);
    let nowhere = Site::new();
    nowhere.write_config();
    let verified = said(&nowhere, &["audit", "verify", bundle.to_str().unwrap()]);
    assert!(verified.contains("all of it is signed"), "{verified}");
    said(&nowhere, &["audit", "verify", bundle.to_str().unwrap(), "--key", key.trim()]);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_audit.py");
    let python =
        |file: &Path| Command::new("python3").arg(&script).arg(key.trim()).arg(file).output().unwrap();
    for file in [&bundle, &trail(&site)] {
        let output = python(file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("whole: records 1 to "));
    }
    // Each of them finds a change, wherever it is.
    let bytes = fs::read(trail(&site)).unwrap();
    let file = site.path("changed.jsonl");
    let mut changes = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 20) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        assert!(!python(&file).status.success(), "byte {at}");
        wrong(&site, &["audit", "verify", file.to_str().unwrap()]);
        changes += 1;
    }
    assert!(changes >= 20);
    let mut changed = fs::read(&bundle).unwrap();
    let at = changed.windows(5).position(|window| window == b"alice").unwrap();
    changed[at] = b'm';
    fs::write(&bundle, changed).unwrap();
    let refused = wrong(&nowhere, &["audit", "verify", bundle.to_str().unwrap()]);
    assert!(refused.contains("is not what its manifest says"), "{refused}");
}

#[test]
fn a_trail_that_was_made_without_the_key_is_not_proven() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.stop();
    let key = said(&site, &["audit", "key"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let whole = fs::read_to_string(trail(&site)).unwrap();
    let last = Link::of(whole.lines().next_back().unwrap().as_bytes());
    let end = Head { seq: whole.lines().count() as u64, link: last };
    let forged =
        |before: &str, behind: Head, records: u32, from: std::time::Duration, took: std::time::Duration| {
            let mut chain = Chain::behind(behind);
            let mut text = before.to_owned();
            for number in 0..records {
                let entry = Entry::new(from + took * number / records, Event::Stopped);
                text += &format!("{}\n", chain.append(&entry).text);
            }
            text
        };
    let (file, zero) = (site.path("forged.jsonl"), std::time::Duration::ZERO);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_audit.py");
    let verified = |text: String| {
        fs::write(&file, text).unwrap();
        let output = ctl(&site, &["audit", "verify", file.to_str().unwrap()]);
        let python = Command::new("python3").arg(&script).arg(key.trim()).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), python.status.code(), "{output:?} {python:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (text, why) in [
        (String::new(), "there are no records"),
        (
            forged("", Head::NONE, 169, now - hour, zero),
            "records 1 to 169 are whole, but none of them is signed",
        ),
        (forged("", Head::NONE, 20_000, now, zero), "none of them is signed"),
        (forged(&whole, end, 5_000, now, hour), "the last 5000 are not signed, and were made in 59m"),
        (forged(&whole, end, 15_001, now, zero), "and siglatchd leaves no more than 15000 of 11m unsigned"),
    ] {
        let (code, said) = verified(text);
        assert!(
            code == 65 && said.starts_with("error: the trail is not proven: ") && said.contains(why),
            "{code} {said}"
        );
    }
    // What siglatchd leaves when it is killed.
    for young in [forged("", Head::NONE, 169, now, zero), forged(&whole, end, 100, now, zero)] {
        assert_eq!(verified(young), (0, String::new()));
    }
}

#[test]
fn what_a_kill_left_unsigned_is_signed_soon_after_the_next_start() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.kill();
    assert_eq!(ctl(&site, &["audit", "head"]).status.code(), Some(75), "nothing is signed yet");
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.wait("a signature", |line| line.contains("code=audit-head"));
    daemon.stop();
    whole(&site);
}

#[test]
fn a_file_that_cannot_be_written_stops_no_knock_and_is_whole_later() {
    let mut site = Site::new().with_run();
    site.tables += "\n[audit]\ncheckpoint_every = \"1s\"\n";
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    // A folder in the file's place.
    fs::remove_file(trail(&site)).unwrap();
    fs::create_dir(trail(&site)).unwrap();
    knocked(&site, &mut daemon, 2);
    daemon.wait("an alarm", |line| line.contains("code=audit-file-failing"));
    fs::remove_dir(trail(&site)).unwrap();
    knocked(&site, &mut daemon, 1);
    daemon.wait("its end", |line| line.contains("code=audit-file-recovered"));
    daemon.stop();
    // What was in the file that was removed is missing, nothing else.
    let verified = said(&site, &["audit", "verify"]);
    assert!(verified.contains("what came before record"), "{verified}");
    assert!(kinds(&site).iter().filter(|kind| *kind == "claimed").count() >= 3);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of ways")]
fn who_writes_to_the_file_while_siglatchd_runs_is_noticed() {
    type Change = fn(&Site, &str);
    // What was done; what is said of it; whether the file was put aside; whether the trail is whole again.
    let ways: [(&str, Change, &str, bool, bool); 6] = [
        (
            "cut at a line",
            |site, text| write(site, &text[..=text.find('\n').unwrap()]),
            "were written to it",
            false,
            true,
        ),
        (
            "cut in a line",
            |site, text| write(site, &text[..text.len() / 2]),
            "were written to it",
            false,
            true,
        ),
        ("emptied", |site, _| write(site, ""), "were written to it", false, true),
        ("longer", |site, text| write(site, &(text.to_owned() + "junk")), "were written to it", false, true),
        (
            "forged",
            |site, text| {
                let last = text.lines().next_back().unwrap().as_bytes();
                let mut chain =
                    Chain::behind(Head { seq: text.lines().count() as u64, link: Link::of(last) });
                let forged = chain.append(&Entry::new(std::time::Duration::ZERO, Event::Stopped)).text;
                write(site, &format!("{text}{forged}\n"));
            },
            "were written to it",
            true,
            true,
        ),
        (
            "edited",
            |site, text| {
                fs::copy(trail(site), site.path("edited")).unwrap();
                fs::write(site.path("edited"), text.replacen("alice", "malor", 1)).unwrap();
                fs::rename(site.path("edited"), trail(site)).unwrap();
            },
            "is another file",
            false,
            false,
        ),
    ];
    fn write(site: &Site, text: &str) {
        let file = fs::OpenOptions::new().write(true).open(trail(site)).unwrap();
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).unwrap();
    }
    for (way, change, what, is_aside, is_whole) in ways {
        let mut site = Site::new().with_run();
        site.tables += "\n[audit]\ncheckpoint_every = \"1s\"\n";
        let mut daemon = site.start();
        knocked(&site, &mut daemon, 2);
        // Nothing more is written until the next knock.
        daemon.wait("a signature", |line| line.contains("code=audit-head"));
        let text = fs::read_to_string(trail(&site)).unwrap();
        change(&site, &text);
        let told = daemon.wait("the alarm", |line| line.contains("code=audit-broken"));
        assert!(told.contains(what), "{way}: {told}");
        assert_eq!(field(&told, "file").unwrap().contains("audit-aside-"), is_aside, "{way}: {told}");
        assert!(said(&site, &["status"]).contains("WARNING        audit.jsonl "), "{way}");
        knocked(&site, &mut daemon, 1);
        let told = |line: &&String| line.contains("code=audit-broken");
        assert_eq!(daemon.stop().log.iter().filter(told).count(), 1, "{way}: once");
        assert!(!fs::read(trail(&site)).unwrap().contains(&0), "{way}");
        if is_whole {
            whole(&site);
            assert_eq!(kinds(&site).iter().filter(|kind| *kind == "claimed").count(), 3, "{way}");
        } else {
            assert!(wrong(&site, &["audit", "verify"]).contains("record 3 was changed"), "{way}");
        }
    }
}

#[test]
fn a_key_that_was_exchanged_is_recorded_and_told() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.stop();
    let before = said(&site, &["audit", "key"]);
    fs::write(site.path("state/audit.key"), "5".repeat(64)).unwrap();
    let mut daemon = site.start();
    let now = said(&site, &["audit", "key"]);
    let told = daemon.wait("an alarm", |line| line.contains("code=audit-key-changed"));
    assert_eq!(
        (field(&told, "key").unwrap(), field(&told, "before").unwrap()),
        (now.trim().to_owned(), before.trim().to_owned())
    );
    assert!(said(&site, &["status"]).contains("which signed the trail until this start"));
    daemon.stop();
    let record = records(&site).into_iter().find(|record| record["kind"] == "key-changed").unwrap();
    assert_eq!((&record["key"], &record["before"]), (&now.trim().into(), &before.trim().into()));
    assert!(wrong(&site, &["audit", "verify"]).contains("is signed by a key that is not trusted"));
    said(&site, &["audit", "verify", "--key", before.trim(), "--key", now.trim()]);
    // It is gone: that another is made is a record anyway, and told as the exchange that it is.
    fs::remove_file(site.path("state/audit.key")).unwrap();
    let mut daemon = site.start();
    daemon.wait("an alarm", |line| line.contains("code=audit-key-changed"));
    daemon.stop();
    assert_eq!(kinds(&site).iter().filter(|kind| *kind == "key-made").count(), 2);
    let stopped = site.start().stop();
    assert!(!stopped.log.iter().any(|line| line.contains("code=audit-key-changed")), "once");
}

#[test]
fn with_a_store_in_memory_the_file_alone_has_the_trail() {
    let mut site = Site::new().with_run();
    site.top += "store = \"memory\"\n";
    fs::remove_dir_all(site.path("state")).unwrap();
    for _ in 0..2 {
        let mut daemon = site.start();
        // Its floor is the moment of its start.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        knocked(&site, &mut daemon, 1);
        daemon.stop();
    }
    whole(&site);
    assert_eq!(kinds(&site).iter().filter(|kind| *kind == "claimed").count(), 2);
    assert!(!site.path("state/claims.db").exists());
}

#[test]
fn what_could_not_be_recorded_is_counted_when_the_daemon_stops() {
    let banned = |breaks: fn(&Site)| {
        let site = Site::new().with_run();
        let daemon = site.start();
        breaks(&site);
        said(&site, &["ban", "198.51.100.0/24"]);
        let stopped = daemon.stop();
        (site, stopped)
    };
    let (site, _) = banned(|_| {});
    // But for the first two, which were written, and the signature.
    let events = kinds(&site).len() - 3;
    let (site, stopped) = banned(|site| {
        let store = rusqlite::Connection::open(site.path("state/claims.db")).unwrap();
        let full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END";
        store.execute_batch(full).unwrap();
    });
    assert_eq!(kinds(&site), ["key-made", "started"]);
    assert_eq!(stopped.count("audit-missed"), events as u64, "{:?}", stopped.log);
}

#[test]
fn lines_that_are_no_records_are_told_by_whatever_reads_the_trail() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.stop();
    let text = fs::read_to_string(trail(&site)).unwrap();
    let knock = records(&site)[2]["knock"].as_str().unwrap().to_owned();
    fs::write(trail(&site), text.replacen("\n", "\nno record\n{}\n", 1)).unwrap();
    for args in [&["history"][..], &["explain", &knock], &["audit", "show"], &["audit", "head"]] {
        let output = ctl(&site, args);
        let (out, told) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && !out.is_empty(), "{args:?}: {told}");
        assert!(
            told.starts_with("warning: lines that are no records, and left out here: 2\n"),
            "{args:?}: {told}"
        );
    }
    assert!(wrong(&site, &["audit", "verify"]).contains("audit.jsonl, line 2)"));
}

#[test]
fn nothing_in_a_record_steers_the_terminal_that_it_is_shown_on() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    knocked(&site, &mut daemon, 1);
    daemon.stop();
    let text = fs::read_to_string(trail(&site)).unwrap();
    let knock = records(&site)[2]["knock"].as_str().unwrap().to_owned();
    let hostile = "al\u{9b}31m\u{202e}ice\u{2066}";
    fs::write(trail(&site), text.replace("alice", hostile).replace("\"lane\"", "\"la\u{85}ne\"")).unwrap();
    for args in [&["history"][..], &["explain", &knock], &["audit", "show"]] {
        let said = said(&site, args);
        assert!(said.contains(r"al\u{9b}31m\u{202e}ice\u{2066}"), "{args:?}: {said:?}");
        let steers = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2066}".contains(c);
        assert!(!said.contains(steers), "{args:?}: {said:?}");
    }
    for args in [&["history", "--json"][..], &["audit", "show", "--json"]] {
        assert!(said(&site, args).contains(hostile), "{args:?}: programs get it as it is");
    }
}

#[test]
fn a_bundle_that_unfolds_to_more_than_it_is_is_refused_unread() {
    let site = Site::new();
    site.write_config();
    let bundle = site.path("bundle.tar");
    let refused = |kind: tar::EntryType, name: &str, len: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_size(len);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(4096, 0);
        fs::write(&bundle, bytes).unwrap();
        wrong(&site, &["audit", "verify", bundle.to_str().unwrap()])
    };
    use tar::EntryType as Kind;
    for kind in [Kind::GNUSparse, Kind::GNULongName, Kind::XHeader, Kind::Symlink, Kind::Directory] {
        let said = refused(kind, "records.jsonl", 1 << 30);
        assert!(said.contains("\"records.jsonl\" in it is no regular file"), "{kind:?}: {said}");
    }
    for name in ["records.jsonl", "another"] {
        assert!(refused(Kind::Regular, name, (4 << 30) + 1).contains("holds more than 4 GiB"));
    }
    assert!(refused(Kind::Regular, "records.jsonl", 1 << 30).contains("ends in the middle of records.jsonl"));
}

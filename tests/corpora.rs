//! What fuzzing keeps in `fuzz/corpus`, replayed without a fuzzer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use siglatch::channel::{Lane, ToKeeper, ToListener};
use siglatch::fuzzing;
use siglatch::reason::DropReason;
use siglatch::wire::UserId;

/// Longest file of a corpus, in bytes.
const LONGEST: usize = 2048;

#[test]
fn every_target_has_a_corpus_and_every_corpus_holds() {
    let targets: BTreeMap<&str, fn(&[u8])> = BTreeMap::from([
        ("audit", fuzzing::audit as fn(&[u8])),
        ("channel", fuzzing::channel),
        ("config", fuzzing::config),
        ("control", fuzzing::control),
        ("invite", fuzzing::invite),
        ("keys", fuzzing::keys),
        ("listener", |data| drop(fuzzing::listener(data))),
        ("packet", fuzzing::packet),
        ("pipeline", |data| drop(fuzzing::pipeline(data))),
        ("receipt", fuzzing::receipt),
        ("sealed", fuzzing::sealed),
        ("sieve", |data| _ = fuzzing::sieve(data)),
    ]);
    let names: BTreeSet<String> = targets.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(names_in("fuzz/fuzz_targets"), names);
    assert_eq!(names_in("fuzz/corpus"), names);
    for (name, target) in targets {
        let files = corpus(name);
        assert!(files.len() >= 5, "{name}: {} files are no corpus", files.len());
        for (file, bytes) in &files {
            println!("{}", file.display());
            assert!(bytes.len() <= LONGEST, "{} is too long", file.display());
            target(bytes);
        }
        println!("{name}: {} replayed", files.len());
    }
}

#[test]
fn the_pipelines_corpus_reaches_every_reason_and_a_grant() {
    let mut reached = BTreeSet::new();
    let mut answers = BTreeSet::new();
    let mut granted = 0;
    let mut named = 0;
    for (file, bytes) in corpus("pipeline") {
        let seen = fuzzing::pipeline(&bytes);
        let name = file.file_name().unwrap().to_str().unwrap();
        println!("{name} {seen:?}");
        // "stamp-rate" is named after a stamp's rate, not after a stamp.
        let reasons = DropReason::ALL.iter().filter(|reason| is_named(name, **reason));
        if let Some(reason) = reasons.max_by_key(|reason| reason.code().len()) {
            assert!(seen.refused.contains(reason), "{name} brought about {seen:?}");
            named += 1;
        }
        reached.extend(seen.refused);
        granted += seen.granted;
        answers.extend(seen.answers);
    }
    println!("{named} programs are named after their reason");
    let all: BTreeSet<DropReason> = DropReason::ALL.iter().copied().collect();
    let missed: Vec<_> = all.difference(&reached).collect();
    // Keys are exchanged by the daemon's own loop, which is not in this pipeline: tests/daemon/enrol.rs has it.
    assert_eq!(missed, [&DropReason::KeyTaken], "no program reaches these");
    assert!(granted > 0, "no program reaches a grant");
    let all = ["busy", "denied", "done", "failed", "quota", "running", "v1"].map(str::to_owned);
    assert_eq!(answers, BTreeSet::from(all));
}

#[test]
fn the_listeners_corpus_has_one_given_up_for_each_offence() {
    let mut reached = BTreeSet::new();
    for (file, bytes) in corpus("listener") {
        let losses = fuzzing::listener(&bytes);
        println!("{} {losses:?}", file.display());
        reached.extend(losses);
    }
    assert_eq!(reached, BTreeSet::from(["ended", "flood", "malformed", "silent"]));
}

#[test]
fn the_sieves_corpus_opens_both_kinds_of_datagram_and_neither() {
    let lanes: Vec<_> = corpus("sieve").iter().map(|(_, bytes)| fuzzing::sieve(bytes)).collect();
    println!("{lanes:?}");
    let expected = [None, Some(Lane::Plain), Some(Lane::Stamped(UserId(1)))];
    assert!(expected.iter().all(|lane| lanes.contains(lane)), "{lanes:?}");
}

#[test]
fn the_channels_corpus_has_every_message_of_both_directions() {
    let mut reached = BTreeSet::new();
    for (_, bytes) in corpus("channel") {
        let kinds = [ToKeeper::decode(&bytes).is_ok(), ToListener::decode(&bytes).is_ok()];
        let heard = kinds.iter().zip(["to the keeper", "to the listener"]).filter(|(is_one, _)| **is_one);
        reached.extend(heard.map(|(_, direction)| (direction, bytes[0])));
    }
    println!("{reached:?}");
    let all = [("to the keeper", 1..=5), ("to the listener", 1..=8)];
    let all = all.into_iter().flat_map(|(direction, types)| types.map(move |number| (direction, number)));
    assert_eq!(reached, all.collect());
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let (shipped, fuzzed) = (locked("Cargo.lock"), locked("fuzz/Cargo.lock"));
    assert!(fuzzed.len() > 50, "{} packages are not all", fuzzed.len());
    let own = ["arbitrary", "libfuzzer-sys", "siglatch-fuzz"];
    let others: Vec<_> =
        fuzzed.difference(&shipped).filter(|(name, _)| !own.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "cp Cargo.lock fuzz/ and run scripts/fuzz: {others:?}");
    let names: BTreeSet<&str> = fuzzed.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<_> = needed().into_iter().filter(|name| !names.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "run scripts/fuzz and commit fuzz/Cargo.lock: {missing:?}");
}

/// By the features that fuzzing has.
fn needed() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let features = ["client", "server"].map(|name| manifest["features"][name].as_array().unwrap());
    let listed = features.into_iter().flatten().filter_map(|feature| feature.as_str()?.strip_prefix("dep:"));
    listed.map(str::to_owned).collect()
}

fn locked(file: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lock: toml::Table = text.parse().unwrap();
    let field = |package: &toml::Value, key| package[key].as_str().unwrap().to_owned();
    let packages = lock["package"].as_array().unwrap();
    packages.iter().map(|package| (field(package, "name"), field(package, "version"))).collect()
}

/// "store-full", or "replay-after-a-restart".
fn is_named(name: &str, reason: DropReason) -> bool {
    name.strip_prefix(reason.code()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = listed(&format!("fuzz/corpus/{target}")).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn names_in(folder: &str) -> BTreeSet<String> {
    listed(folder).map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn listed(folder: &str) -> impl Iterator<Item = PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}

//! The rooms of DESIGN's table, held apart: what a room may not touch does not stand in its sources.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure room may not name: it is handed time, bytes and randomness.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::UdpSocket",
    "std::net::Tcp",
    "mio::",
    "socket2",
    "nix::",
    "rustix::",
    "clock::wall",
    "Clock::",
    "SystemTime",
    "Instant",
    "log::",
    "rand::random",
    "rand::rng",
    "OsRng",
    "tempfile",
    "std::io",
];

struct Room {
    name: &'static str,
    /// Folders or files below src.
    places: &'static [&'static str],
    /// Files of them that this rule spares, and why.
    spared: &'static [&'static str],
    forbidden: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "wire is pure", places: &["wire"], spared: &[], forbidden: IMPURE },
    Room {
        name: "wire knows no other room",
        places: &["wire"],
        spared: &[],
        forbidden: &[
            "crate::config",
            "crate::channel",
            "crate::judge",
            "crate::listener",
            "crate::store",
            "crate::work",
        ],
    },
    // pair.rs is the one socket there.
    Room { name: "channel is pure", places: &["channel"], spared: &["channel/pair.rs"], forbidden: IMPURE },
    Room {
        name: "judge, and what is known of sources, is pure",
        places: &["judge", "reason.rs", "sources.rs"],
        spared: &[],
        forbidden: IMPURE,
    },
    Room { name: "audit is pure", places: &["audit"], spared: &[], forbidden: IMPURE },
    Room {
        name: "admission, lanes and filters are pure",
        places: &["listener/admission.rs", "listener/admission", "listener/lanes.rs", "listener/filter.rs"],
        spared: &[],
        forbidden: IMPURE,
    },
    Room {
        name: "jobs, leases and hooks are pure",
        places: &[
            "work/hooks.rs",
            "work/hooks",
            "work/job.rs",
            "work/jobs.rs",
            "work/leases.rs",
            "work/leases",
            "work/nft.rs",
            "work/output.rs",
        ],
        spared: &[],
        forbidden: IMPURE,
    },
    Room {
        name: "who may say what, and for how long, is pure",
        places: &["keeper/listener/health.rs", "keeper/stamps.rs"],
        spared: &[],
        forbidden: IMPURE,
    },
    Room {
        name: "the listener can neither judge nor act",
        places: &["listener"],
        // An attacker, in test builds alone.
        spared: &["listener/misbehave.rs"],
        forbidden: &[
            "crate::judge",
            "crate::work",
            "crate::store",
            "crate::control",
            "crate::keeper",
            "HmacKey",
            "wire::mac",
            "std::process",
            "std::fs",
            "log::",
        ],
    },
    Room {
        name: "only the runner starts scripts, one file the listener, and one the user's ssh",
        places: &[""],
        spared: &[
            "work/runner",
            "sys/spawn.rs",
            "keeper/listener/child.rs",
            "listener/misbehave.rs",
            "client/ssh.rs",
            // The administrator's tool: nft, and its own other half.
            "ctl/firewall/nft.rs",
            "ctl/firewall/trial.rs",
        ],
        forbidden: &["process::Command", "Command::new", "spawn::{", "spawn::spawn", "libc::clone"],
    },
    Room {
        name: "config knows nothing that runs",
        places: &["config"],
        spared: &[],
        forbidden: &[
            "UdpSocket",
            "Tcp",
            "socket2",
            "mio::",
            "std::process",
            "crate::judge",
            "crate::keeper",
            "crate::listener",
            "crate::store",
            "crate::work",
            "crate::channel",
            "log::info",
            "log::warn",
            "log::error",
        ],
    },
    Room {
        name: "the client needs no server",
        places: &["client"],
        spared: &[],
        forbidden: &[
            "crate::channel",
            "crate::judge",
            "crate::keeper",
            "crate::listener",
            "crate::store",
            "crate::work",
            "crate::ctl",
            "config::Config",
            "config::resolved",
            "mio::",
            "rusqlite",
            "aws_lc_rs",
        ],
    },
    Room {
        name: "ctl neither receives nor judges",
        places: &["ctl"],
        spared: &[],
        forbidden: &["crate::listener", "crate::keeper", "crate::judge"],
    },
    Room {
        name: "only the live view draws",
        places: &[""],
        spared: &["ctl/top.rs", "ctl/top"],
        forbidden: &["ratatui", "crossterm"],
    },
    Room {
        name: "what is seen knows no terminal",
        places: &["ctl/top/view.rs", "ctl/top/rates.rs"],
        spared: &[],
        forbidden: &["ratatui", "std::io", "crate::clock"],
    },
    Room {
        name: "what the exporter says is pure",
        places: &[
            "ctl/exporter/health.rs",
            "ctl/exporter/http.rs",
            "ctl/exporter/jwks.rs",
            "ctl/exporter/metrics.rs",
            "ctl/exporter/pages.rs",
        ],
        spared: &[],
        forbidden: IMPURE,
    },
    Room {
        name: "one reader of clocks",
        places: &[""],
        spared: &["clock.rs"],
        forbidden: &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"],
    },
    Room {
        name: "one room may be unsafe",
        places: &[""],
        spared: &["sys.rs", "sys"],
        forbidden: &["unsafe {", "unsafe fn"],
    },
];

#[test]
fn no_room_touches_what_it_may_not() {
    let mut broken = Vec::new();
    for room in ROOMS {
        let files: Vec<PathBuf> =
            sources(room.places).into_iter().filter(|file| !spared(room, file)).collect();
        assert!(!files.is_empty(), "{}: no file matches, so nothing is tested", room.name);
        for spared in room.spared {
            assert!(src().join(spared).exists(), "{}: {spared} is spared but not there", room.name);
        }
        for file in files {
            for (number, line) in code(&file) {
                for word in room.forbidden.iter().filter(|word| line.contains(**word)) {
                    broken.push(format!("{}: {}:{number} names {word}", room.name, file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_file_is_short_enough_to_be_read() {
    let mut long = Vec::new();
    let files = sources(&[""]);
    assert!(files.len() > 30, "only {} files were found", files.len());
    for file in files {
        let lines = code(&file).count();
        if lines > 400 {
            long.push(format!("{} has {lines} lines", file.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(places: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = places.iter().map(|place| src().join(place)).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test(&path) {
            found.push(path);
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    ["tests.rs", "testing.rs"].iter().any(|name| path.ends_with(name))
}

fn spared(room: &Room, file: &Path) -> bool {
    room.spared.iter().any(|spared| file.starts_with(src().join(spared)))
}

/// The lines that are compiled into the product, numbered: no comments, nothing behind the tests' heading.
fn code(file: &Path) -> impl Iterator<Item = (usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    let lines: Vec<_> = product
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect();
    lines.into_iter()
}

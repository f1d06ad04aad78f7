//! Instructions, as callgrind counts them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::world::{PATHS, Size, TIMES};

/// What one time of a path costs.
pub(crate) struct Cost {
    /// Instructions, SHA-256's compression left out: processors have one for it or have not, and valgrind's has not.
    pub(crate) instructions: u64,
    /// Calls of that compression.
    pub(crate) hashes: u64,
}

/// Of each of [`PATHS`] in a world of this size.
pub(crate) fn costs(size: &Size) -> Vec<Cost> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // Building the world is not instrumented: that would take minutes.
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--instr-atstart=no", "--quiet"])
        .args([format!("--toggle-collect={MEASURED}"), format!("--dump-after={MEASURED}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--inside", size.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    let on =
        Command::new("callgrind_control").args(["--instr=on", &child.id().to_string()]).output().unwrap();
    assert!(on.status.success(), "{on:?}");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());

    let dumps =
        (1..=PATHS.len()).map(|part| fs::read_to_string(format!("{}.{part}", out.display())).unwrap());
    dumps.map(|dump| Cost::read(&dump)).collect()
}

impl Cost {
    /// From a dump in callgrind's format: functions, the costs of their own lines, and their calls, each of which has the
    /// callee's cost in the next line. A function has its name where it is first mentioned, and a number everywhere.
    fn read(dump: &str) -> Cost {
        let (mut hashers, mut here, mut called) = (Vec::new(), "", "");
        let (mut cost, mut is_callees) = (Cost { instructions: 0, hashes: 0 }, false);
        for line in dump.lines() {
            if let Some((kind @ ("fn" | "cfn"), function)) = line.split_once('=') {
                let (number, name) = function.split_once(' ').unwrap_or((function, ""));
                if name.starts_with(COMPRESSION) {
                    hashers.push(number);
                }
                if kind == "fn" { here = number } else { called = number }
            } else if let Some(calls) = line.strip_prefix("calls=") {
                if hashers.contains(&called) && !hashers.contains(&here) {
                    cost.hashes += number(calls.split(' ').next());
                }
                is_callees = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                if !is_callees && !hashers.contains(&here) {
                    cost.instructions += number(line.split(' ').nth(1));
                }
                is_callees = false;
            }
        }
        let times = u64::from(TIMES);
        Cost { instructions: cost.instructions / times, hashes: cost.hashes / times }
    }
}

fn number(word: Option<&str>) -> u64 {
    word.unwrap().parse().unwrap()
}

/// Who counted, and who compiled what was counted.
pub(crate) fn versions() -> String {
    let version = |program: &str| {
        let said = Command::new(program).arg("--version").output().unwrap().stdout;
        String::from_utf8(said).unwrap().lines().next().unwrap().to_owned()
    };
    format!("{}, {}", version("rustc"), version("valgrind"))
}

const MEASURED: &str = "cost::world::measured";
const COMPRESSION: &str = "sha2::sha256::";

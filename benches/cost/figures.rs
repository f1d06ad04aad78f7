//! Costs by path and size: the measured ones, and those in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::valgrind;
use crate::world::{PATHS, SIZES};

pub(crate) struct Figures {
    versions: String,
    /// By path, in the order of [`SIZES`].
    counts: BTreeMap<String, Vec<u64>>,
}

impl Figures {
    pub(crate) fn measure() -> Figures {
        let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for size in &SIZES {
            for (path, cost) in PATHS.iter().zip(valgrind::costs(size)) {
                counts.entry((*path).to_owned()).or_default().push(cost.instructions);
                counts.entry(format!("{path}/sha-256")).or_default().push(cost.hashes);
            }
        }
        let figures = Figures { versions: valgrind::versions(), counts };
        println!("{}", figures.text());
        figures
    }

    pub(crate) fn committed() -> Figures {
        let text = fs::read_to_string(place()).unwrap();
        let mut lines = text.lines();
        let versions = lines.next().unwrap().trim_start_matches("# ").to_owned();
        let counts = lines.filter(|line| !line.starts_with('#')).map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap().to_owned(), words.map(|word| word.parse().unwrap()).collect())
        });
        Figures { versions, counts: counts.collect() }
    }

    pub(crate) fn commit(&self) {
        fs::write(place(), self.text()).unwrap();
    }

    /// What is wrong with these, by themselves and beside the committed ones.
    pub(crate) fn compare(&self, committed: &Figures) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, counts) in &self.counts {
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            if most * 10 > least * 11 {
                problems.push(format!("{path}: its cost grows with what there is, from {least} to {most}"));
            }
            let Some(expected) = committed.counts.get(path) else {
                problems.push(format!("{path}: has no figures yet: {RENEW}"));
                continue;
            };
            for ((size, count), expected) in SIZES.iter().zip(counts).zip(expected) {
                let floor = if path.ends_with("/sha-256") { 0 } else { CALL };
                if count.abs_diff(*expected) > (*expected / 20).max(floor) {
                    problems.push(format!("{path}, {}: {count} instead of {expected}", size.name));
                }
            }
        }
        if !problems.is_empty() && self.versions != committed.versions {
            problems.push(format!("the figures were made by others ({}): {RENEW}", committed.versions));
        } else if !problems.is_empty() {
            problems.push(format!("if that is as it should be: {RENEW}"));
        }
        problems
    }

    fn text(&self) -> String {
        let sizes: String = SIZES.iter().map(|size| format!("{:>13}", size.name)).collect();
        let mut text = format!("# {}\n# {:24}{sizes}\n", self.versions, "instructions, hashes");
        for (path, counts) in &self.counts {
            let counts: String = counts.iter().map(|count| format!("{count:>13}")).collect();
            text.push_str(&format!("{path:26}{counts}\n"));
        }
        text
    }
}

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/cost/figures.txt")
}

/// Instructions of a call that the compiler inlines or does not, as what stands around it and the folder of the build have it.
const CALL: u64 = 10;

const RENEW: &str = "renew them with `scripts/cost --renew`";

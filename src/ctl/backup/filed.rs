//! What the trail's files say where the store, which would know, is lost.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;

use crate::audit::LINE_MAX;
use crate::store::journal;

/// What they say.
#[derive(Default)]
pub(super) struct Trail {
    /// The number of the last record; 0 without one.
    pub(super) head: u64,
    /// Users who have exchanged their keys.
    pub(super) exchanged: BTreeSet<String>,
}

impl Trail {
    /// Reads those in `folder`; of exchanges, those behind the record `after`.
    pub(super) fn read(folder: &Path, after: u64) -> Trail {
        let mut trail = Trail::default();
        for file in journal::files(folder).into_iter().flatten().flat_map(File::open) {
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while (&mut lines).take(LINE_MAX as u64).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                // What is no record is what a crash left, or somebody wrote.
                if let Ok(record) = serde_json::from_slice(&line) {
                    trail.record(record, after);
                }
                line.clear();
            }
        }
        trail
    }

    fn record(&mut self, Record { seq, kind, user }: Record, after: u64) {
        let Ok(seq) = seq.parse() else { return };
        self.head = self.head.max(seq);
        if kind == "key-exchanged" && seq > after {
            self.exchanged.extend(user);
        }
    }
}

#[derive(Deserialize)]
struct Record {
    seq: String,
    kind: String,
    user: Option<String>,
}

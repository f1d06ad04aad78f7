//! Whether the audit trail is whole: in its files, and in the store.

use std::path::Path;

use super::Finding;
use crate::audit::{Fault, Record, Trust, verify};
use crate::clock;
use crate::ctl::ask::folder;
use crate::ctl::audit::{Source, bounds, not_proven, public_key, stored};
use crate::ctl::document::Document;
use crate::exit::Failure;

/// Reads all of it.
pub(super) fn look(config: &Path, document: &Document) -> Vec<Finding> {
    let folder = folder(document, "state_dir", "/var/lib/siglatch");
    examine(config, &folder).unwrap_or_else(|failure| vec![doubt(failure)])
}

fn examine(config: &Path, folder: &Path) -> Result<Vec<Finding>, Failure> {
    let trust = Trust { keys: vec![public_key(config)?], heads: Vec::new() };
    let mut source = Source::of_server(folder)?;
    let (mut seq, mut other, mut failure) = (None, None, None);
    let mut store =
        stored(folder).map_while(|line| line.map_err(|error| failure = Some(error)).ok()).peekable();
    // What the store lacks, after a crash of the machine for one, the file has.
    let lines = (&mut source).inspect(|line| {
        let line = line.trim_ascii_end();
        let first = || Record::read(line).map_or(0, |record| record.seq);
        let now = seq.map_or_else(first, |last: u64| last.saturating_add(1));
        while store.next_if(|beside| beside.seq < now).is_some() {}
        if store.next_if(|beside| beside.seq == now).is_some_and(|beside| beside.text.as_bytes() != line) {
            other.get_or_insert(now);
        }
        seq = Some(now);
    });
    let verified = verify(lines, &trust);
    drop(store);
    let place = verified.as_ref().err().map(|broken| source.place(broken.line)).unwrap_or_default();
    source.end()?;
    failure.map_or(Ok(()), Err)?;
    let bounds = bounds(config);
    Ok(vec![match (verified, other) {
        (Err(broken), _) => fault(&broken.fault, &place),
        (Ok(_), Some(seq)) => {
            Finding::bad(format!("the audit trail is whole, but the store's record {seq} is another"), KEEP)
        }
        (Ok(verified), None) if !verified.is_proven(bounds, clock::wall()) => {
            doubt(not_proven(&verified, bounds))
        }
        (Ok(verified), None) => {
            let (last, signed) = (verified.last.seq, verified.signed);
            Finding::good(format!("the audit trail is whole up to record {last}, and signed up to {signed}"))
        }
    }])
}

fn fault(fault: &Fault, place: &str) -> Finding {
    let what = format!("the audit trail is not whole: {fault} ({place})");
    match fault {
        Fault::Foreign(..) => Finding::doubt(
            what,
            "if you exchanged audit.key: siglatchctl audit verify --key OLD --key NEW; if not, somebody else did",
        ),
        Fault::Changed(..)
        | Fault::AtOrBefore(_)
        | Fault::Removed(..)
        | Fault::Inserted(_)
        | Fault::Reordered(_)
        | Fault::CutOff(_)
        | Fault::Forged(..)
        | Fault::OtherHead(_)
        | Fault::NotHere(_) => Finding::bad(what, KEEP),
    }
}

fn doubt(failure: Failure) -> Finding {
    Finding::doubt(failure.what, failure.hint.unwrap_or_else(|| "siglatchctl audit verify".to_owned()))
}

const KEEP: &str = "keep a copy of `state_dir` as it is: it is the evidence (siglatchctl audit verify)";

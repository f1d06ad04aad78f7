//! Whether a trail that is whole is also proven: somebody without the key makes a whole one, but cannot sign it.

use std::path::Path;
use std::time::Duration;

use toml_edit::Item;

use crate::audit::{Bounds, Verified};
use crate::config;
use crate::config::resolved::Audit;
use crate::config::show_duration;
use crate::ctl::document::Document;
use crate::exit::{Exit, Failure};

/// What the server of this configuration leaves unsigned at most; without one, a server that keeps to what is usual.
pub(in crate::ctl) fn bounds(config: &Path) -> Bounds {
    let document = Document::open(config).ok();
    let set = |key| document.as_ref()?.get("audit")?.get(key);
    let records = set("checkpoint_records").and_then(Item::as_integer);
    let every = set("checkpoint_every").and_then(Item::as_str).and_then(config::duration);
    Bounds::new(
        records.and_then(|records| records.try_into().ok()).unwrap_or(Audit::DEFAULT.checkpoint_records),
        every.unwrap_or(Audit::DEFAULT.checkpoint_every),
    )
}

/// Why it is not.
pub(in crate::ctl) fn not_proven(verified: &Verified, bounds: Bounds) -> Failure {
    let Verified { records, first, last, signed, open, .. } = verified;
    let last = last.seq;
    let what = if *records == 0 {
        "there are no records".to_owned()
    } else if open.records == *records {
        format!("records {first} to {last} are whole, but none of them is signed: anybody can have made them")
    } else {
        let time = show_duration(Duration::from_millis(open.to.saturating_sub(open.from)));
        let (most, long) = (bounds.records, show_duration(bounds.time));
        format!(
            "records {first} to {last} are whole, but the last {} are not signed, and were made in {time}: anybody can have \
             made them. Signed are those up to {signed}, and siglatchd leaves no more than {most} of {long} unsigned",
            open.records
        )
    };
    Failure::new(Exit::NotProven, format!("the trail is not proven: {what}")).hint(
        "a head that was kept elsewhere proves what comes before it (--head); siglatchd signs at its next start what a kill left. \
         If it signs more rarely, name its configuration (--config)",
    )
}

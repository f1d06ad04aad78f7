//! What an import says of what it did not take over as it was.

use crate::exit::{Exit, Failure};

/// Remarks, in the order of what they are about.
#[derive(Debug, Default)]
pub(super) struct Report {
    remarks: Vec<Remark>,
}

#[derive(Debug)]
struct Remark {
    kind: Kind,
    place: String,
    of: String,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A person has to.
    Decide,
    /// It has no equivalent, or needs none.
    Left,
}

impl Report {
    /// Somebody has to decide. `place` is file and line, `of` what stands there.
    pub(super) fn decide(&mut self, place: &str, of: &str, what: impl Into<String>) {
        self.add(Kind::Decide, place, of, what.into());
    }

    /// Left out, or taken another way, for this reason.
    pub(super) fn left(&mut self, place: &str, of: &str, what: impl Into<String>) {
        self.add(Kind::Left, place, of, what.into());
    }

    fn add(&mut self, kind: Kind, place: &str, of: &str, what: String) {
        self.remarks.push(Remark { kind, place: place.to_owned(), of: of.to_owned(), what });
    }

    /// All of it, for people.
    pub(super) fn text(&self) -> String {
        let heads = [(Kind::Decide, "to be decided by you:"), (Kind::Left, "not taken over as it was:")];
        let mut text = String::new();
        for (kind, head) in heads {
            let of_kind: Vec<&Remark> = self.remarks.iter().filter(|remark| remark.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            text.push_str(&format!("\n{head}\n"));
            for Remark { place, of, what, .. } in of_kind {
                text.push_str(&format!("  {place}: {of}: {what}\n"));
            }
        }
        text
    }

    /// How the command ends when everything is written.
    ///
    /// # Errors
    ///
    /// [`Failure`] when something is left to decide.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let open = self.remarks.iter().filter(|remark| remark.kind == Kind::Decide).count();
        if open == 0 {
            return Ok(());
        }
        let what = format!("left to decide: {open}, see the report above");
        Err(Failure::new(Exit::Undecided, what)
            .hint("everything else is written, and siglatchd would take it"))
    }
}

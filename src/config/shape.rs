//! Text to raw keys: every key that is unknown or of the wrong type is noted and mended, and the rest is read on.
//!
//! serde stops at the first error. So what it complains about is mended in the parsed document (a misspelt key gets the
//! name that was meant, a wrong value goes) and the document is read again, until it reads or [`NOTED_MAX`] is reached.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::problems::{Place, Problem, Source};

/// What is known of a file beside its raw keys.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) source: Arc<Source>,
    /// Dotted names of values that were noted and taken out: nobody needs to hear that they are missing.
    pub(super) excused: BTreeSet<String>,
}

impl Document {
    /// Reads `source` as the keys of `T`. `None`: nothing further can be said about this file.
    pub(super) fn read<T: DeserializeOwned>(
        source: &Arc<Source>,
        notes: &mut Vec<Problem>,
    ) -> Option<(Document, T)> {
        let mut table = syntax(source, notes)?;
        let mut document = Document { source: Arc::clone(source), excused: BTreeSet::new() };
        for _ in 0..NOTED_MAX {
            let error = match T::deserialize(Deserializer::from(table.clone())) {
                Ok(raw) => return Some((document, raw)),
                Err(error) => error,
            };
            let Some(problem) = document.mend_table(table.get_mut(), "", &error) else {
                notes.push(Problem::error(document.place(span(&error)), error.message()));
                return None;
            };
            notes.push(problem);
        }
        notes.push(
            Problem::error(document.place(0..0), "there is more wrong with this file")
                .hint("mend what is listed first"),
        );
        None
    }

    /// A stretch of this file.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.source, span)
    }

    /// Mends what `error` points at, and says what was wrong with it; `None` when it is not in `table`.
    fn mend_table(&mut self, table: &mut DeTable<'_>, section: &str, error: &Error) -> Option<Problem> {
        let at = span(error);
        let pointed = table
            .iter()
            .find(|(key, value)| key.span() == at || value.span() == at)
            .map(|(key, _)| key.clone());
        let Some(key) = pointed else {
            return table.iter_mut().find_map(|(key, value)| {
                self.mend_value(value.get_mut(), &dotted(section, key.get_ref()), error)
            });
        };
        let value = table.remove(&key)?;
        let place = self.place(at);
        match known_keys(error.message(), key.get_ref()) {
            Some(known) => Some(misspelt(table, section, &key, value, &known, place)),
            None => {
                let name = dotted(section, key.get_ref());
                let problem = wrong_type(&name, error.message(), place);
                self.excused.insert(name);
                Some(problem)
            }
        }
    }

    fn mend_value(&mut self, value: &mut DeValue<'_>, name: &str, error: &Error) -> Option<Problem> {
        let list = match value {
            DeValue::Table(table) => return self.mend_table(table, name, error),
            DeValue::Array(list) => list,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => return None,
        };
        let at = span(error);
        if list.iter().all(|value| value.span() != at) {
            return list.iter_mut().find_map(|value| self.mend_value(value.get_mut(), name, error));
        }
        *list = list.iter().filter(|value| value.span() != at).cloned().collect();
        Some(wrong_type(name, error.message(), self.place(at)))
    }
}

/// The name among `known` that was most likely meant by `written`.
pub(super) fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Measuring takes the product of both lengths: a name of a megabyte is no typing mistake.
    if written.len() > COMPARED_MAX {
        return None;
    }
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// "users.alice" and "id" are "users.alice.id".
pub(super) fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// " in [users.alice]"; nothing for the top of the file.
pub(super) fn inside(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in [{section}]") }
}

/// Parses TOML. A key that stands twice is noted and the rest goes on; any other mistake ends it, and only the first is
/// told: what a parser finds behind it are mostly echoes.
fn syntax<'i>(source: &'i Arc<Source>, notes: &mut Vec<Problem>) -> Option<Spanned<DeTable<'i>>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let (doubles, broken): (Vec<_>, Vec<_>) =
        errors.iter().partition(|error| error.message() == "duplicate key");
    if let Some(first) = broken.into_iter().min_by_key(|error| span(error).start) {
        let (what, hint) = match first.message() {
            // A word without quotes looks to the parser like the start of a number.
            bare if bare.starts_with("invalid float") || bare.starts_with("string values must be quoted") => {
                ("text stands in straight quotes (\")", "true, false, numbers and dates stand without")
            }
            key if key.starts_with("invalid unquoted key") => (key, "a line is: key = value"),
            other => (other, "everything behind it is read when it is mended"),
        };
        let what = format!("this is no TOML: {what}");
        notes.push(Problem::error(Place::new(source, span(first)), what).hint(hint));
        return None;
    }
    notes.extend(doubles.into_iter().take(NOTED_MAX).map(|error| {
        let key = source.text.get(span(error)).unwrap_or_default();
        let what = format!("`{key}` stands twice in this table");
        Problem::error(Place::new(source, span(error)), what).hint("leave one of the two out")
    }));
    Some(table)
}

/// The keys that serde would have taken in the place of `key`, when it is an unknown one.
fn known_keys<'m>(message: &'m str, key: &str) -> Option<Vec<&'m str>> {
    let known = message.strip_prefix(&format!("unknown field `{key}`, expected "))?;
    Some(known.split('`').skip(1).step_by(2).collect())
}

/// Notes an unknown key, and reads its value on under the name that was meant, so that nothing is missing because of it.
fn misspelt<'i>(
    table: &mut DeTable<'i>,
    section: &str,
    key: &Spanned<std::borrow::Cow<'i, str>>,
    value: Spanned<DeValue<'i>>,
    known: &[&str],
    place: Place,
) -> Problem {
    let problem = Problem::error(place, format!("unknown key `{key}`{}", inside(section)));
    let Some(meant) = closest(key.get_ref(), known.iter().copied()) else {
        let elsewhere = match section {
            "" => "",
            _ => "; those of the server stand above the first [table]",
        };
        return problem.hint(format!("the keys here are {}{elsewhere}", known.join(", ")));
    };
    let name = Spanned::new(key.span(), meant.to_owned().into());
    match (table.get_mut(meant).map(Spanned::get_mut), value.get_ref()) {
        (None, _) => {
            table.insert(name, value);
        }
        (Some(DeValue::Table(there)), DeValue::Table(more)) => {
            there.extend(more.clone());
        }
        (Some(_), _) => {}
    }
    problem.hint(format!("did you mean `{meant}`?"))
}

fn wrong_type(name: &str, message: &str, place: Place) -> Problem {
    let key = name.rsplit('.').next().unwrap_or(name);
    if message.starts_with("invalid value") || message.contains(" as i128") {
        return Problem::error(place, format!("`{key}` is out of range")).hint("write a smaller number");
    }
    let expected = message.rsplit(", expected ").next().unwrap_or(message);
    let (expected, hint) = match expected {
        "a string" => ("a string", "write it in quotes".to_owned()),
        "a sequence" => ("a list", "write it in brackets, [ and ]".to_owned()),
        "i64" => ("a whole number", "write digits alone, without quotes".to_owned()),
        "a boolean" => ("true or false", "write it without quotes".to_owned()),
        "a map" | "a table" => ("a table", format!("write [{name}] and its keys below")),
        other => (other, "config/siglatchd.toml shows how it is written".to_owned()),
    };
    Problem::error(place, format!("`{key}` takes {expected}")).hint(hint)
}

fn span(error: &Error) -> Range<usize> {
    error.span().unwrap_or_default()
}

/// Mistakes of one kind that are told of one file.
const NOTED_MAX: usize = 50;

/// Longest name that is compared with others, in bytes.
const COMPARED_MAX: usize = 64;

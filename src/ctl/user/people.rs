//! A table of people, as spreadsheets write it: RFC 4180, with a line of names on top.
//!
//! ```csv
//! name,actions,not_after,max_knocks
//! alice,ssh hello,,
//! bob,"ssh,web",2030-12-31,3
//! ```
//!
//! `name` and `actions` must be there, in any order; `id`, `not_after` and `max_knocks` may be. Actions have blanks, commas or
//! semicolons between them. Blank lines and those that begin with `#` are passed over.

use std::path::Path;

use super::Person;
use crate::config::TEXT_MAX;
use crate::config::files::{self, Secrecy};
use crate::exit::{Exit, Failure};
use crate::wire::invite::Name;

/// Someone of a table, and the line that he stands in, counted from 1.
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) person: Person,
}

/// Reads all of it. What is wrong is said of every line at once.
pub(super) fn read(file: &Path) -> Result<Vec<Row>, Vec<Failure>> {
    let bytes = files::read(file, Secrecy::Public, TEXT_MAX).map_err(|bad| vec![bad.into()])?;
    let text = String::from_utf8(bytes.to_vec());
    let text =
        text.map_err(|_| vec![Failure::new(Exit::Usage, format!("{}: is no text", file.display()))])?;
    let (rows, wrong) = rows(&text);
    if wrong.is_empty() && !rows.is_empty() {
        return Ok(rows);
    }
    if wrong.is_empty() {
        let what = format!("{}: has nobody in it", file.display());
        return Err(vec![Failure::new(Exit::Usage, what).hint(FORM)]);
    }
    Err(wrong.into_iter().map(|(line, what)| at(file, line, Failure::new(Exit::Usage, what))).collect())
}

/// What is wrong, and in which line.
pub(super) fn at(file: &Path, line: usize, failure: Failure) -> Failure {
    Failure { what: format!("{}: line {line}: {}", file.display(), failure.what), ..failure }
}

type Wrong = (usize, String);

fn rows(text: &str) -> (Vec<Row>, Vec<Wrong>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(at, line)| (at.saturating_add(1), line));
    let mut lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let Some((first, head)) = lines.next() else { return (Vec::new(), Vec::new()) };
    let columns = match columns(head) {
        Ok(columns) => columns,
        Err(what) => return (Vec::new(), vec![(first, what)]),
    };
    let (mut rows, mut wrong) = (Vec::<Row>::new(), Vec::new());
    for (line, text) in lines {
        match person(&columns, text) {
            Ok(person) => match rows.iter().find(|row| row.person.name == person.name) {
                Some(row) => {
                    wrong.push((line, format!("{} stands in line {} already", person.name, row.line)))
                }
                None => rows.push(Row { line, person }),
            },
            Err(what) => wrong.push((line, what)),
        }
    }
    (rows, wrong)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Actions,
    Id,
    NotAfter,
    MaxKnocks,
}

fn columns(head: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in fields(head)? {
        let known = COLUMNS.iter().find(|(known, _)| *known == name.trim());
        let (_, column) = known.ok_or_else(|| format!("there is no column {name:?}; {FORM}"))?;
        if columns.contains(column) {
            return Err(format!("the column {name:?} is there twice"));
        }
        columns.push(*column);
    }
    for (name, column) in COLUMNS.iter().take(2) {
        if !columns.contains(column) {
            return Err(format!("there is no column named {name}; {FORM}"));
        }
    }
    Ok(columns)
}

fn person(columns: &[Column], text: &str) -> Result<Person, String> {
    let fields = fields(text)?;
    if fields.len() != columns.len() {
        return Err(format!("{} fields, where the first line names {}", fields.len(), columns.len()));
    }
    let of = |column: Column| {
        let at = columns.iter().position(|other| *other == column)?;
        fields.get(at).map(|field| field.trim()).filter(|field| !field.is_empty())
    };
    let number = |column, what: &str| {
        of(column).map(|text| text.parse::<u32>().map_err(|_| format!("{text:?} is no {what}"))).transpose()
    };
    let id = number(Column::Id, "id: one is 0 to 65535")?;
    let max_knocks = number(Column::MaxKnocks, "number of knocks")?.map(|most| match most {
        0 => Err("max_knocks is 0: he could not knock at all".to_owned()),
        most => Ok(most),
    });
    let name = of(Column::Name).unwrap_or_default();
    let name = Name::parse(name).ok_or_else(|| format!("{name:?} is no name: {}", Name::RULE))?;
    let actions = of(Column::Actions).unwrap_or_default();
    let actions = actions.split([' ', ',', ';']).filter(|action| !action.is_empty());
    let action = |text: &str| Name::parse(text).ok_or_else(|| format!("{text:?} is no action's name"));
    let actions = actions.map(action).collect::<Result<Vec<_>, _>>()?;
    if actions.is_empty() {
        return Err(format!("{name} has no action that he may run"));
    }
    Ok(Person {
        name,
        actions,
        id: id
            .map(|id| u16::try_from(id).map_err(|_| format!("{id} is no id: one is 0 to 65535")))
            .transpose()?,
        not_after: of(Column::NotAfter).map(str::to_owned),
        max_knocks: max_knocks.transpose()?,
    })
}

/// The fields of a line; a quoted one may have commas, and quotes by twos.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = fields.last_mut() else { break };
        match (letter, quoted) {
            ('"', true) if letters.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', true) => quoted = false,
            ('"', false) if field.is_empty() => quoted = true,
            (',', false) => fields.push(String::new()),
            (letter, _) => field.push(letter),
        }
    }
    if quoted { Err("a quote is not closed in its line".to_owned()) } else { Ok(fields) }
}

/// The first two must be there.
const COLUMNS: [(&str, Column); 5] = [
    ("name", Column::Name),
    ("actions", Column::Actions),
    ("id", Column::Id),
    ("not_after", Column::NotAfter),
    ("max_knocks", Column::MaxKnocks),
];

const FORM: &str = "the first line names the columns, such as name,actions,not_after,max_knocks";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        rows(text).1.into_iter().map(|(line, what)| format!("{line}: {what}")).collect()
    }

    #[test]
    fn a_table_reads_as_spreadsheets_write_it() {
        let text = "\u{feff}max_knocks,name,actions,not_after\r\n# staff\r\n,alice,ssh hello,\r\n\r\n\
                    3,\"bob\",\"ssh,web; vpn\",2030-12-31\r\n";
        let (rows, wrong) = rows(text);
        assert_eq!(wrong, []);
        let shown: Vec<_> = rows
            .iter()
            .map(|Row { line, person }| {
                let actions: Vec<&str> = person.actions.iter().map(Name::as_str).collect();
                (
                    *line,
                    person.name.as_str(),
                    actions.join(" "),
                    person.max_knocks,
                    person.not_after.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (3, "alice", "ssh hello".to_owned(), None, None),
                (5, "bob", "ssh web vpn".to_owned(), Some(3), Some("2030-12-31"))
            ]
        );
    }

    #[test]
    fn every_wrong_line_is_told_at_once() {
        let text = "name,actions,id,max_knocks\nalice,ssh,1\n../x,ssh,,\nbob,,,\ncarol,ssh,65536,\ndave,ssh,,0\n\
                    eve,ssh,x,\n\"frank,ssh,,\ngrace,s/h,,\nok,ssh,,\nok,ssh,,";
        let expected = [
            "2: 3 fields, where the first line names 4",
            "3: \"../x\" is no name: a name is 1 to 64 letters, digits, `.`, `_` or `-`, the first no `.` or `-`",
            "4: bob has no action that he may run",
            "5: 65536 is no id: one is 0 to 65535",
            "6: max_knocks is 0: he could not knock at all",
            "7: \"x\" is no id: one is 0 to 65535",
            "8: a quote is not closed in its line",
            "9: \"s/h\" is no action's name",
            "11: ok stands in line 10 already",
        ];
        assert_eq!(told(text), expected);
        for (head, what) in [
            ("name\nalice", "1: there is no column named actions"),
            ("alice,ssh\nbob,ssh", "1: there is no column \"alice\""),
            ("name,actions,name\n", "1: the column \"name\" is there twice"),
        ] {
            assert!(told(head)[0].starts_with(what), "{:?}", told(head));
        }
    }
}

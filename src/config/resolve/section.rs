//! Reading one table's values: each getter notes what is wrong and goes on with the default.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use toml::Value;
use zeroize::Zeroizing;

use crate::config::credential;
use crate::config::files::BadFile;
use crate::config::problems::{Place, Problem};
use crate::config::raw::{Any, Number as RawNumber, Text, Texts};
use crate::config::resolved::{AddressList, Enabled, Reply};
use crate::config::shape::{Document, closest, dotted, inside};
use crate::config::units;
use crate::wire::Bound;

/// One table of a file.
pub(super) struct Section<'a> {
    pub(super) document: &'a Document,
    /// Dotted, such as "users.alice"; empty for the top of the file.
    pub(super) name: String,
    /// Its header.
    pub(super) header: Range<usize>,
    pub(super) notes: &'a mut Vec<Problem>,
}

/// A value's default, least and most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<T> {
    pub(super) default: T,
    pub(super) min: T,
    pub(super) max: T,
}

/// The integer types of the limits.
pub(super) trait Number: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display {}

impl<T: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display> Number for T {}

impl Section<'_> {
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        self.document.place(span)
    }

    pub(super) fn error(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem::error(self.place(span), what).hint(hint);
        self.notes.push(problem);
    }

    pub(super) fn warning(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem::warning(self.place(span), what).hint(hint);
        self.notes.push(problem);
    }

    /// The value, or a note that it is missing and what to write.
    pub(super) fn required<'v, T>(&mut self, key: &str, value: &'v Option<T>, hint: &str) -> Option<&'v T> {
        if value.is_none() && !self.document.excused.contains(&dotted(&self.name, key)) {
            let what = format!("`{key}` is missing{}", inside(&self.name));
            self.error(self.header.clone(), what, hint);
        }
        value.as_ref()
    }

    /// "1h30m"
    pub(super) fn duration(&mut self, key: &str, value: &Option<Any>, bounds: Bounds<Duration>) -> Duration {
        let Some(value) = value else {
            return bounds.default;
        };
        let read = value.get_ref().as_str().and_then(units::duration);
        match read {
            Some(duration) if (bounds.min..=bounds.max).contains(&duration) => duration,
            Some(_) | None => {
                let (min, max) = (units::show_duration(bounds.min), units::show_duration(bounds.max));
                let what = format!("`{key}` takes a time from {min} to {max}");
                self.error(value.span(), what, "a time is written \"250ms\", \"90s\", \"5m\" or \"1h30m\"");
                bounds.default
            }
        }
    }

    /// "4KiB", or a number of bytes.
    pub(super) fn size(&mut self, key: &str, value: &Option<Any>, bounds: Bounds<usize>) -> usize {
        let Some(value) = value else {
            return bounds.default;
        };
        let read = match value.get_ref() {
            Value::String(text) => units::size(text),
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                None
            }
        };
        match read.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) if (bounds.min..=bounds.max).contains(&bytes) => bytes,
            Some(_) | None => {
                let show = |bytes: usize| units::show_size(bytes as u64);
                let what = format!("`{key}` takes a size from {} to {}", show(bounds.min), show(bounds.max));
                self.error(
                    value.span(),
                    what,
                    "a size is written \"512B\", \"4KiB\", \"1MiB\" or as a number of bytes",
                );
                bounds.default
            }
        }
    }

    /// A whole number.
    pub(super) fn number<T: Number>(&mut self, key: &str, value: &Option<RawNumber>, bounds: Bounds<T>) -> T {
        let hint = format!("{} if left out", bounds.default);
        value
            .as_ref()
            .and_then(|value| self.whole(key, value, bounds.min..=bounds.max, &hint))
            .unwrap_or(bounds.default)
    }

    /// A whole number without a default.
    pub(super) fn whole<T: Number>(
        &mut self,
        key: &str,
        value: &RawNumber,
        range: RangeInclusive<T>,
        hint: &str,
    ) -> Option<T> {
        let number = T::try_from(*value.get_ref()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let what = format!("`{key}` takes a whole number from {} to {}", range.start(), range.end());
            self.error(value.span(), what, hint);
        }
        number
    }

    /// One of `choices`. What starts with one of `later` is a word whose feature isn't built yet.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Option<Text>,
        default: T,
        choices: &[(&str, T)],
        later: &[&str],
    ) -> T {
        let Some(value) = value else {
            return default;
        };
        let written = value.get_ref();
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| word == written) {
            return *chosen;
        }
        let words = any_of(choices.iter().map(|(word, _)| *word));
        if later.iter().any(|start| written.starts_with(start)) {
            self.unbuilt(value.span(), &format!("{key} = \"{written}\""), &format!("what works is {words}"));
            return default;
        }
        let problem = Problem::error(self.place(value.span()), format!("`{key}` takes {words}"));
        self.notes.push(match closest(written, choices.iter().map(|(word, _)| *word)) {
            Some(meant) => problem.hint(format!("did you mean \"{meant}\"?")),
            None => problem,
        });
        default
    }

    /// Notes a value whose feature isn't built yet.
    pub(super) fn unbuilt(&mut self, span: Range<usize>, written: &str, hint: &str) {
        self.error(span, format!("`{written}` is not built yet"), hint);
    }

    /// The least binding that is accepted.
    pub(super) fn bind(&mut self, value: &Option<Text>, server_id: ServerIdGiven) -> Bound {
        let choices = [("none", Bound::None), ("server", Bound::Server), ("source", Bound::Source)];
        let bound = self.choice("bind", value, Bound::None, &choices, &[]);
        if let (Some(value), ServerIdGiven::No, Bound::Server | Bound::Source) = (value, server_id, bound) {
            let what = format!("`bind = \"{bound}\"` without a `server_id`: every knock would be refused");
            self.error(value.span(), what, "write server_id = \"...\" at the top of the main file");
        }
        bound
    }

    /// What knocks are answered with, if it is written.
    pub(super) fn reply(&mut self, value: &Option<Text>) -> Option<Reply> {
        let choices = [
            ("never", Some(Reply::Never)),
            ("receipt", Some(Reply::Receipt)),
            ("receipt+output", Some(Reply::ReceiptAndOutput)),
        ];
        self.choice("reply", value, None, &choices, &[])
    }

    /// Networks and single addresses.
    pub(super) fn addresses(&mut self, value: &Option<Texts>) -> AddressList {
        let list = value.iter().flat_map(toml::Spanned::get_ref);
        AddressList(list.filter_map(|text| self.network(text)).collect())
    }

    fn network(&mut self, text: &Text) -> Option<IpNet> {
        let written = text.get_ref();
        let parsed = written.parse().or_else(|_| written.parse().map(|ip: IpAddr| IpNet::from(ip)));
        let Ok(net) = parsed else {
            let what = "this is neither an address nor a network";
            self.error(text.span(), what, "write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"");
            return None;
        };
        if net != net.trunc() {
            let what = format!("{net} has bits set behind its first {}", net.prefix_len());
            let hint =
                format!("write \"{}\" for the network, or \"{}\" for the address", net.trunc(), net.addr());
            self.error(text.span(), what, hint);
            return None;
        }
        Some(folded(net))
    }

    /// Reads a key file that only its owner may read, or a credential.
    pub(super) fn secret(&mut self, text: &Text, max: u64) -> Option<(PathBuf, Zeroizing<Vec<u8>>)> {
        let path = match credential::place(text.get_ref()) {
            None => self.path(text),
            Some(Ok(path)) => path,
            Some(Err((what, hint))) => {
                self.error(text.span(), what, hint);
                return None;
            }
        };
        match credential::read(&path, max) {
            Ok(bytes) => Some((path, bytes)),
            Err(bad) => {
                self.bad_file(text.span(), &bad);
                None
            }
        }
    }

    pub(super) fn bad_file(&mut self, span: Range<usize>, bad: &BadFile) {
        let problem = Problem::bad_file(Some(self.place(span)), bad);
        self.notes.push(problem);
    }

    /// A path, relative to the file that names it.
    pub(super) fn path(&self, text: &Text) -> PathBuf {
        self.document.source.absolute.with_file_name(text.get_ref())
    }

    /// Notes what cannot be passed to a program.
    pub(super) fn no_nul(&mut self, text: &Text) {
        if text.get_ref().contains('\0') {
            self.error(text.span(), "a program takes no NUL byte", "leave it out");
        }
    }
}

/// Whether bound knocks can be told at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerIdGiven {
    Yes,
    No,
}

/// `"a", "b" or "c"`
fn any_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some(_) | None => words.concat(),
    }
}

/// On, unless told otherwise.
pub(super) fn enabled(value: Option<bool>) -> Enabled {
    match value {
        Some(true) | None => Enabled::Yes,
        Some(false) => Enabled::No,
    }
}

/// `::ffff:192.0.2.0/120` is 192.0.2.0/24: sources are compared folded.
fn folded(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else {
        return net;
    };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok()).map_or(net, IpNet::V4)
}

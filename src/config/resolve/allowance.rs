//! `cooldown`, `quota` and `hours` of a user or an action, `zone` of the server.

use std::time::Duration;

use jiff::tz::TimeZone;
use toml::{Spanned, Value};

use super::section::{Bounds, Section};
use crate::config::allowance::{self, Allowance, BadHours, Hours, Quota};
use crate::config::raw::{Any, Text};

/// The keys as they are written.
pub(super) struct Written<'a> {
    pub(super) cooldown: &'a Option<Any>,
    pub(super) quota: &'a Option<Text>,
    pub(super) hours: &'a Option<Any>,
}

pub(super) fn resolve(section: &mut Section<'_>, written: &Written<'_>, zone: &TimeZone) -> Allowance {
    Allowance {
        cooldown: cooldown(section, written.cooldown),
        quota: written.quota.as_ref().and_then(|text| quota(section, text, zone)),
        hours: written.hours.as_ref().map(|value| hours(section, value, zone)).unwrap_or_default(),
    }
}

/// The server's: that of the system if none is written.
pub(super) fn zone(top: &mut Section<'_>, written: &Option<Text>) -> TimeZone {
    let Some(text) = written else {
        return TimeZone::try_system().unwrap_or(TimeZone::UTC);
    };
    allowance::zone(text.get_ref()).unwrap_or_else(|| {
        let what = format!("there is no time zone \"{}\"", text.get_ref());
        top.error(text.span(), what, ZONES);
        TimeZone::UTC
    })
}

fn cooldown(section: &mut Section<'_>, written: &Option<Any>) -> Option<u32> {
    let value = written.as_ref()?;
    let cooldown = section.duration("cooldown", written, COOLDOWN);
    if cooldown.subsec_nanos() > 0 {
        section.error(value.span(), "`cooldown` takes whole seconds", "write \"1s\" or more");
    }
    u32::try_from(cooldown.as_secs()).ok()
}

fn quota(section: &mut Section<'_>, text: &Text, zone: &TimeZone) -> Option<Quota> {
    let quota = Quota::parse(text.get_ref(), zone);
    if quota.is_none() {
        let what = "`quota` takes a number from 1 to 999999 per \"hour\", \"day\" or \"week\"";
        section.error(text.span(), what, "write \"20/day\"");
    }
    quota
}

/// One text, or a list of them.
fn hours(section: &mut Section<'_>, value: &Any, zone: &TimeZone) -> Vec<Hours> {
    let texts: Option<Vec<&str>> = match value.get_ref() {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => {
            None
        }
    };
    let Some(texts) = texts.filter(|texts| (1..=SPANS_MAX).contains(&texts.len())) else {
        let what = format!("`hours` takes a text, or a list of 1 to {SPANS_MAX} of them");
        section.error(value.span(), what, HOURS);
        return Vec::new();
    };
    texts.into_iter().filter_map(|text| span(section, value, text, zone)).collect()
}

fn span(section: &mut Section<'_>, at: &Spanned<Value>, text: &str, zone: &TimeZone) -> Option<Hours> {
    let (what, hint) = match Hours::parse(text, zone) {
        Ok(hours) => return Some(hours),
        Err(BadHours::Form) => (format!("\"{text}\" names no hours"), HOURS),
        Err(BadHours::Empty) => (format!("\"{text}\" ends when it begins"), "a whole day is 00:00-24:00"),
        Err(BadHours::Zone(name)) => (format!("there is no time zone \"{name}\""), ZONES),
    };
    section.error(at.span(), what, hint);
    None
}

const COOLDOWN: Bounds<Duration> = Bounds {
    default: Duration::from_secs(1),
    min: Duration::from_secs(1),
    max: Duration::from_secs(31 * 86_400),
};

const HOURS: &str = "write \"mon-fri 08:00-18:00\", with a time zone behind it if it is not the server's";
const ZONES: &str = "write one such as \"Europe/Berlin\", or \"UTC\"";
const SPANS_MAX: usize = 32;

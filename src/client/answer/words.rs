//! Answers in words, and as JSON.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};

use super::Heard;
use crate::client::knock::Sent;
use crate::client::target::Target;
use crate::clock;
use crate::config::units;
use crate::exit::{Exit, Failure};
use crate::wire::Receipt;
use crate::wire::receipt::Status;

/// One line for a script.
pub(in crate::client) fn json_line(
    target: &Target,
    sent: &Sent,
    heard: &Heard,
    patience: Duration,
) -> String {
    let receipt = heard.receipt.as_ref();
    let status = match receipt {
        Some(receipt) => receipt.status.to_string(),
        None if patience.is_zero() => "sent".to_owned(),
        None => "no-answer".to_owned(),
    };
    let fields = json!({
        "profile": target.label, "action": target.action.number(), "to": sent.to.to_string(),
        "knock": sent.id.to_string(), "status": status,
        "text": receipt.map(Receipt::words),
        "seen_from": receipt.map(|receipt| receipt.source.to_string()),
        "lease_seconds": receipt.map(|receipt| receipt.lease_seconds),
        "server_time": receipt.map(|receipt| receipt.server_time),
        "clock_ahead": receipt.map(clock_off),
    });
    line(&fields)
}

fn line(fields: &Value) -> String {
    // Only in texts is anything of that kind.
    let escaped = |c: char| if is_unseen(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    let line: String = fields.to_string().chars().map(escaped).collect();
    format!("{line}\n")
}

/// Whether a door is open for as long as was asked for.
#[derive(Clone, Copy)]
pub(super) enum Given {
    Asked,
    Less,
}

/// Whether the server gives less than `hold`, in seconds. Some of it may be over by now, though never more than was waited for.
pub(super) fn is_cut(hold: u32, receipt: &Receipt, patience: Duration) -> bool {
    let over = patience.as_secs().saturating_add(CLOCK_TOLERANCE);
    receipt.lease_seconds > 0 && u64::from(receipt.lease_seconds).saturating_add(over) < hold.into()
}

/// What a person reads: the outcome, where he was seen, how far his clock is off when it is, what the server says.
pub(super) fn words(what: &str, receipt: &Receipt, given: Given) -> String {
    let Receipt { status, lease_seconds, source, .. } = receipt;
    // "ssh" of "ssh (1) for 10m".
    let name = what.split(' ').next().unwrap_or(what);
    let text = printable(&receipt.words());
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (reason, output) = match status {
        Status::Done | Status::Running => ("", text.as_str()),
        Status::Failed | Status::Busy | Status::Quota | Status::Denied => (first, rest),
    };
    let outcome = match status {
        Status::Done if *lease_seconds > 0 => {
            let open = units::show_duration(Duration::from_secs((*lease_seconds).into()));
            let cut = match given {
                Given::Asked => "",
                Given::Less => " (the server gives at most that)",
            };
            format!("open for {open}{cut}")
        }
        Status::Done => "done".to_owned(),
        Status::Failed => "failed".to_owned(),
        Status::Running => "still running".to_owned(),
        Status::Busy | Status::Quota | Status::Denied => "refused".to_owned(),
    };
    let (before, behind) = if reason.is_empty() { ("", ",") } else { (": ", ";") };
    let output = if output.is_empty() { String::new() } else { format!("\n{output}") };
    format!(
        "{name} {outcome}{before}{reason}{behind} seen from {source}{}{output}",
        clock_words(clock_off(receipt))
    )
}

/// The answer to `siglatch whoami`.
pub(in crate::client) fn whoami_words(receipt: &Receipt) -> String {
    let Receipt { source, server_time, .. } = receipt;
    let (time, clock) = (time_of_day((*server_time).into()), clock_words(clock_off(receipt)));
    format!("seen from {source}, server time {time}{clock}\n{}", printable(&receipt.words()))
}

/// How many seconds this clock is ahead of the server's.
fn clock_off(receipt: &Receipt) -> i64 {
    let here = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
    here.saturating_sub(receipt.server_time.into())
}

fn clock_words(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs();
    match ahead {
        _ if seconds <= CLOCK_TOLERANCE => String::new(),
        1.. => format!("; this clock is {seconds} s ahead of the server's"),
        _ => format!("; this clock is {seconds} s behind the server's"),
    }
}

/// For who has no answer where there should be one.
pub(super) fn none(sent: &Sent, patience: Duration, error: Option<ErrorKind>) -> Failure {
    let time = units::show_duration(patience);
    let (said, look) = match error {
        None => (String::new(), ""),
        Some(ErrorKind::ConnectionRefused) => (", and nothing listens on that port".to_owned(), ""),
        Some(error) => (format!(": {error}"), "is the network up? "),
    };
    let clock = time_of_day(clock::wall().as_secs());
    Failure::new(Exit::NoAnswer, format!("no answer from {} in {time}{said}", sent.to)).hint(format!(
        "{look}look at this machine's clock first, which says {clock}: a server is silent to who is minutes off. Then: do \
         host and port lead to it, does a firewall let UDP through, is the profile the newest invite? Its log knows the rest"
    ))
}

/// 12:07:31 UTC
fn time_of_day(unix: u64) -> String {
    let seconds = unix.rem_euclid(86_400);
    let (hours, minutes) = (seconds.div_euclid(3600), seconds.div_euclid(60).rem_euclid(60));
    format!("{hours:02}:{minutes:02}:{:02} UTC", seconds.rem_euclid(60))
}

/// A script may print what a stranger sent.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// What a terminal does not show but obeys, or what turns the text around that follows.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Seconds, both clocks' fractions and the way included.
const CLOCK_TOLERANCE: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::KnockId;

    fn receipt(status: Status, text: &str) -> Receipt {
        Receipt {
            status,
            knock: KnockId([1; 8]),
            server_time: u32::try_from(clock::wall().as_secs()).unwrap(),
            lease_seconds: 0,
            source: [192, 0, 2, 7].into(),
            text: text.into(),
        }
    }

    #[test]
    fn each_outcome_has_its_words() {
        let cases = [
            (Status::Done, "", "ssh done, seen from 192.0.2.7"),
            (Status::Done, "hi\n\x1b[1m\u{202e}", "ssh done, seen from 192.0.2.7\nhi\n\\u{1b}[1m\\u{202e}"),
            (Status::Failed, "rc=3\nno disk", "ssh failed: rc=3; seen from 192.0.2.7\nno disk"),
            (Status::Running, "", "ssh still running, seen from 192.0.2.7"),
            (Status::Busy, "busy: x", "ssh refused: busy: x; seen from 192.0.2.7"),
            (Status::Quota, "quota: y", "ssh refused: quota: y; seen from 192.0.2.7"),
            (Status::Denied, "", "ssh refused, seen from 192.0.2.7"),
        ];
        for (status, text, expected) in cases {
            assert_eq!(words("ssh (1)", &receipt(status, text), Given::Asked), expected);
        }
        let open = Receipt { lease_seconds: 3598, ..receipt(Status::Done, "") };
        assert_eq!(words("ssh (1) for 1h", &open, Given::Asked), "ssh open for 59m58s, seen from 192.0.2.7");
        let cut = "ssh open for 59m58s (the server gives at most that), seen from 192.0.2.7";
        assert_eq!(words("ssh (1) for 4h", &open, Given::Less), cut);
        let patience = Duration::from_secs(2);
        assert_eq!([3600, 3602, 3603].map(|hold| is_cut(hold, &open, patience)), [false, false, true]);
        assert!(!is_cut(3600, &receipt(Status::Done, ""), patience), "no door");
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        assert_eq!(clock_words(2), "");
        assert_eq!(clock_words(-90), "; this clock is 90 s behind the server's");
        assert_eq!(clock_words(3), "; this clock is 3 s ahead of the server's");
        assert_eq!(time_of_day(1_795_219_667), "00:07:47 UTC");
    }

    #[test]
    fn json_is_one_line_whatever_a_script_prints_and_harmless_at_a_terminal() {
        let text = "a\n\u{9b}31m\u{202e}b\"\\";
        let line = line(&json!({ "text": text }));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.trim_end().contains(is_unseen), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["text"], text);
    }
}

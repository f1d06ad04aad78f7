//! What a server answers: waited for, told in words or as JSON.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;

use super::args;
use super::knock::Sent;
use super::target::Target;
use crate::clock::{self, Clock};
use crate::config::units;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::Answers;
use crate::wire::receipt::{RECEIPT_MAX, Status};
use crate::wire::stamp::Postage;
use crate::wire::{HmacKey, Receipt};

/// How long `siglatch knock` waits.
///
/// # Errors
///
/// [`Failure`] where there is nothing to wait for.
pub(super) fn patience(args: &args::Knock, target: &Target) -> Result<Duration, Failure> {
    match (args.wait, target.postage) {
        (Some(patience), Postage::Plain) if !patience.is_zero() => {
            let what = "there is no receipt for a plain knock";
            Err(Failure::new(Exit::Usage, what)
                .hint("nothing was sent; stamp it (--stamp), or leave --wait out"))
        }
        (Some(patience), Postage::Plain | Postage::Stamped) => Ok(patience),
        (None, _) if is_answered(target) => Ok(WAIT),
        (None, Postage::Plain | Postage::Stamped) => Ok(Duration::ZERO),
    }
}

/// Waits for the last word on each knock, and says it.
///
/// # Errors
///
/// [`Failure`] if none of them did what it is for, but for those that still run.
pub(super) fn conclude(
    args: &args::Knock,
    target: &Target,
    sent: &[Sent],
    patience: Duration,
) -> Result<Exit, Failure> {
    let heard = wait(sent, &target.hmac_key, patience, Until::LastWords);
    if args.json {
        let mut lines = sent.iter().zip(&heard).map(|(sent, heard)| json_line(target, sent, heard, patience));
        lines.try_for_each(|line| exit::say(&line))?;
    }
    if patience.is_zero() {
        return Ok(Exit::Ok);
    }
    let (mut best, mut failures) = (None, Vec::new());
    for (sent, heard) in sent.iter().zip(heard) {
        match heard.judged(&target.what, sent, patience) {
            Ok((exit, words)) => {
                if !args.quiet && !args.json {
                    exit::say(&format!("{words}\n"))?;
                }
                best = if best == Some(Exit::Ok) { best } else { Some(exit) };
            }
            Err(failure) => failures.push(failure),
        }
    }
    match best {
        Some(exit) => {
            if !args.quiet && !args.json {
                failures.iter().for_each(|failure| exit::note(&format!("warning: {}", failure.what)));
            }
            Ok(exit)
        }
        // What was heard tells more than what was not.
        None => {
            failures.sort_by_key(|failure| failure.exit != Exit::NoAnswer);
            match failures.pop() {
                Some(last) if args.json => Ok(last.exit),
                Some(last) => super::last_of(failures.into_iter().chain([last]).collect()).map(|()| Exit::Ok),
                None => Ok(Exit::Ok),
            }
        }
    }
}

/// For who goes on to the door: waits a moment until it is open.
///
/// # Errors
///
/// [`Failure`] where every knock was refused, or did not open it.
pub(super) fn opened(target: &Target, sent: &[Sent], patience: Duration) -> Result<(), Failure> {
    if !is_answered(target) {
        return Ok(());
    }
    let patience = patience.min(MOMENT);
    let heard = wait(sent, &target.hmac_key, patience, Until::FirstGoodWord);
    if heard.iter().any(|heard| heard.is_good() || heard.receipt.is_none()) {
        return Ok(());
    }
    let judged = sent.iter().zip(heard).map(|(sent, heard)| heard.judged(&target.what, sent, patience));
    judged.filter_map(Result::err).next().map_or(Ok(()), Err)
}

/// Whether the profile says that an answer will come.
fn is_answered(target: &Target) -> bool {
    target.answers == Answers::Receipt && target.postage == Postage::Stamped
}

/// What was heard of one knock.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) receipt: Option<Receipt>,
    /// What the network said instead.
    error: Option<ErrorKind>,
}

impl Heard {
    fn is_good(&self) -> bool {
        let status = self.receipt.as_ref().map(|receipt| receipt.status);
        matches!(status, Some(Status::Done | Status::Running))
    }

    /// Nothing more will come.
    fn is_final(&self) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| receipt.status != Status::Running)
    }

    /// How the program ends for it, and what it says.
    pub(super) fn judged(
        self,
        what: &str,
        sent: &Sent,
        patience: Duration,
    ) -> Result<(Exit, String), Failure> {
        let Some(receipt) = self.receipt else {
            return Err(none(sent, patience, self.error));
        };
        let words = words(what, &receipt);
        match receipt.status {
            Status::Done => Ok((Exit::Ok, words)),
            Status::Running => Ok((Exit::StillRunning, words)),
            Status::Failed => Err(Failure::new(Exit::ActionFailed, words)),
            Status::Busy => Err(Failure::new(Exit::TryAgain, words)),
            Status::Quota => Err(Failure::new(Exit::NotNow, words)),
            Status::Denied => Err(Failure::new(Exit::Permission, words)),
        }
    }
}

/// What is enough to stop waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The last word on each knock.
    LastWords,
    /// A good word on one of them.
    FirstGoodWord,
}

/// Waits for answers, and meanwhile knocks again with the same bytes, for which a server runs nothing: an answer may have
/// been lost, or the knock itself.
pub(super) fn wait(sent: &[Sent], key: &HmacKey, patience: Duration, until: Until) -> Vec<Heard> {
    let clock = Clock::start();
    let mut heard: Vec<Heard> = sent.iter().map(|_| Heard::default()).collect();
    let (mut copies, mut again_at, mut pause) = (COPIES, FIRST, FIRST);
    loop {
        let now = clock.now().mono;
        let waiting = heard.iter().filter(|heard| !heard.is_final()).count();
        let enough = until == Until::FirstGoodWord && heard.iter().any(Heard::is_good);
        if now >= patience || waiting == 0 || enough {
            return heard;
        }
        let copy = now >= again_at && copies > 0;
        if copy {
            pause = pause.saturating_mul(2);
            again_at = now.saturating_add(pause);
            copies = copies.saturating_sub(1);
        }
        let due = if copies > 0 { again_at.min(patience) } else { patience };
        let left = due.saturating_sub(now);
        // Each in turns where there are more. Zero would be for ever.
        let slice = if waiting > 1 { left.min(SLICE) } else { left }.max(Duration::from_millis(1));
        for (sent, heard) in sent.iter().zip(&mut heard).filter(|(_, heard)| !heard.is_final()) {
            if copy {
                sent.again();
            }
            receive(sent, key, slice, heard);
        }
    }
}

fn receive(sent: &Sent, key: &HmacKey, timeout: Duration, heard: &mut Heard) {
    let mut buffer = [0; RECEIPT_MAX + 1];
    let received = sent.socket.set_read_timeout(Some(timeout)).and_then(|()| sent.socket.recv(&mut buffer));
    match received {
        Ok(len) => {
            let bytes = buffer.get(..len).unwrap_or_default();
            // Anybody may send anything.
            if let Ok(receipt) = Receipt::open(bytes, key, &sent.hmac) {
                heard.receipt = Some(receipt);
            }
        }
        Err(error) if is_timeout(error.kind()) => {}
        Err(error) => {
            heard.error = Some(error.kind());
            std::thread::sleep(timeout.min(SLICE));
        }
    }
}

/// One line for a script.
pub(super) fn json_line(target: &Target, sent: &Sent, heard: &Heard, patience: Duration) -> String {
    let receipt = heard.receipt.as_ref();
    let status = match receipt {
        Some(receipt) => receipt.status.to_string(),
        None if patience.is_zero() => "sent".to_owned(),
        None => "no-answer".to_owned(),
    };
    let line = json!({
        "profile": target.label, "action": target.action.number(), "to": sent.to.to_string(),
        "knock": sent.id.to_string(), "status": status,
        "text": receipt.map(|receipt| &receipt.text),
        "seen_from": receipt.map(|receipt| receipt.source.to_string()),
        "lease_seconds": receipt.map(|receipt| receipt.lease_seconds),
        "server_time": receipt.map(|receipt| receipt.server_time),
        "clock_ahead": receipt.map(clock_off),
    });
    format!("{line}\n")
}

/// What a person reads: the outcome, where he was seen, how far his clock is off when it is, what the server says.
fn words(what: &str, receipt: &Receipt) -> String {
    let Receipt { status, lease_seconds, source, .. } = receipt;
    // "ssh" of "ssh (1) for 10m".
    let name = what.split(' ').next().unwrap_or(what);
    let text = printable(&receipt.text);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (reason, output) = match status {
        Status::Done | Status::Running => ("", text.as_str()),
        Status::Failed | Status::Busy | Status::Quota | Status::Denied => (first, rest),
    };
    let outcome = match status {
        Status::Done if *lease_seconds > 0 => {
            let open = units::show_duration(Duration::from_secs((*lease_seconds).into()));
            format!("open for {open}")
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
pub(super) fn whoami_words(receipt: &Receipt) -> String {
    let Receipt { source, server_time, .. } = receipt;
    let (time, clock) = (time_of_day((*server_time).into()), clock_words(clock_off(receipt)));
    format!("seen from {source}, server time {time}{clock}\n{}", printable(&receipt.text))
}

/// How many seconds this clock is ahead of the server's.
pub(super) fn clock_off(receipt: &Receipt) -> i64 {
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
fn none(sent: &Sent, patience: Duration, error: Option<ErrorKind>) -> Failure {
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
        if c != '\n' && (c.is_control() || turns_text_around(c)) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// What follows would be shown in another order than it has.
fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// For the answer of a server that answers.
const WAIT: Duration = Duration::from_secs(2);
/// Longer than most doors take to open; whoever connects tries again anyway.
const MOMENT: Duration = Duration::from_secs(1);
/// For one of several sockets.
const SLICE: Duration = Duration::from_millis(5);
/// A server answers five copies.
const COPIES: u8 = 5;
/// From the knock to its first copy; each pause is twice the one before.
const FIRST: Duration = Duration::from_millis(300);
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
            text: text.to_owned(),
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
            assert_eq!(words("ssh (1)", &receipt(status, text)), expected);
        }
        let open = Receipt { lease_seconds: 3598, ..receipt(Status::Done, "") };
        assert_eq!(words("ssh (1) for 1h", &open), "ssh open for 59m58s, seen from 192.0.2.7");
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        assert_eq!(clock_words(2), "");
        assert_eq!(clock_words(-90), "; this clock is 90 s behind the server's");
        assert_eq!(clock_words(3), "; this clock is 3 s ahead of the server's");
        assert_eq!(time_of_day(1_795_219_667), "00:07:47 UTC");
    }
}

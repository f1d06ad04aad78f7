//! What a server answers: waited for, told in words or as JSON.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::clock::{self, Clock};
use crate::config::units;
use crate::exit::{Exit, Failure};
use crate::wire::receipt::{RECEIPT_MAX, Status};
use crate::wire::{HmacKey, Receipt};

/// A knock that was sent, and by which socket.
pub(super) struct Sent<'a> {
    pub(super) socket: &'a UdpSocket,
    pub(super) to: SocketAddr,
    pub(super) datagram: &'a [u8],
    pub(super) key: &'a HmacKey,
    /// The packet's: an answer opens for no other.
    pub(super) hmac: [u8; 32],
}

impl Sent<'_> {
    /// Waits for the answer, and knocks again with the same bytes, for which a server runs nothing, while there is none.
    /// After "still running" the last word is waited for as long as there is time.
    pub(super) fn wait(&self, patience: Duration) -> Option<Receipt> {
        let clock = Clock::start();
        let mut buffer = [0; RECEIPT_MAX + 1];
        let (mut heard, mut copies, mut again_at, mut pause) = (None, COPIES, FIRST, FIRST);
        loop {
            let now = clock.now().mono;
            if now >= patience {
                return heard;
            }
            if now >= again_at && copies > 0 && heard.is_none() {
                // One that is lost is what this is for.
                drop(self.socket.send_to(self.datagram, self.to));
                pause = pause.saturating_mul(2);
                again_at = now.saturating_add(pause);
                copies = copies.saturating_sub(1);
            }
            let due = if copies > 0 && heard.is_none() { again_at.min(patience) } else { patience };
            // Zero would be for ever.
            let timeout = due.saturating_sub(now).max(Duration::from_millis(1));
            if self.socket.set_read_timeout(Some(timeout)).is_err() {
                return heard;
            }
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == self.to => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    match Receipt::open(bytes, self.key, &self.hmac) {
                        Ok(receipt) if receipt.status == Status::Running => heard = Some(receipt),
                        Ok(receipt) => return Some(receipt),
                        // Anybody may send anything.
                        Err(_) => {}
                    }
                }
                Ok(_) => {}
                Err(error) if is_timeout(error.kind()) => {}
                Err(_) => return heard,
            }
        }
    }
}

/// How the program ends for it.
pub(super) fn exit(status: Status) -> Exit {
    match status {
        Status::Done | Status::Running => Exit::Ok,
        Status::Failed => Exit::Internal,
        Status::Busy | Status::Quota => Exit::TryAgain,
        Status::Denied => Exit::Permission,
    }
}

/// What a person reads: the outcome, where he was seen, how far his clock is off when it is, what the server says.
pub(super) fn words(what: &str, receipt: &Receipt) -> String {
    let Receipt { status, lease_seconds, source, .. } = receipt;
    let text = printable(&receipt.text);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (reason, output) = match status {
        Status::Done | Status::Running => ("", text.as_str()),
        Status::Failed | Status::Busy | Status::Quota | Status::Denied => (first, rest),
    };
    let outcome = match status {
        Status::Done if *lease_seconds > 0 => {
            let open = units::show_duration(Duration::from_secs((*lease_seconds).into()));
            format!("{what} is open for {open}")
        }
        Status::Done => format!("{what} is done"),
        Status::Failed => format!("{what} failed"),
        Status::Running => format!("{what} was accepted, and still runs"),
        Status::Busy => format!("{what} was refused, the server is busy"),
        Status::Quota => format!("{what} was refused for now"),
        Status::Denied => format!("{what} was refused"),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let output = if output.is_empty() { String::new() } else { format!("\n{output}") };
    format!("{outcome}{reason}; seen from {source}{}{output}", clock_words(clock_off(receipt)))
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
pub(super) fn none(to: SocketAddr, patience: Duration) -> Failure {
    let time = units::show_duration(patience);
    Failure::new(Exit::TryAgain, format!("no answer from {to} in {time}")).hint(
        "look at this machine's clock first: a server is silent to who is minutes off. Then: does UDP reach that \
         address and port, is the profile the newest invite, is siglatchd running there; its log knows the rest",
    )
}

/// A script may print what a stranger sent.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

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
            (Status::Done, "", "ssh (1) is done; seen from 192.0.2.7"),
            (Status::Done, "hi\n\x1b[1m", "ssh (1) is done; seen from 192.0.2.7\nhi\n\\u{1b}[1m"),
            (Status::Failed, "rc=3\nno disk", "ssh (1) failed: rc=3; seen from 192.0.2.7\nno disk"),
            (Status::Running, "", "ssh (1) was accepted, and still runs; seen from 192.0.2.7"),
            (Status::Denied, "binding: x", "ssh (1) was refused: binding: x; seen from 192.0.2.7"),
        ];
        for (status, text, expected) in cases {
            assert_eq!(words("ssh (1)", &receipt(status, text)), expected);
        }
        let open = Receipt { lease_seconds: 3598, ..receipt(Status::Done, "") };
        assert_eq!(words("ssh (1)", &open), "ssh (1) is open for 59m58s; seen from 192.0.2.7");
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        assert_eq!(clock_words(2), "");
        assert_eq!(clock_words(-90), "; this clock is 90 s behind the server's");
        assert_eq!(clock_words(3), "; this clock is 3 s ahead of the server's");
    }
}

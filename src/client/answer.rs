//! What a server answers: waited for and told.

mod words;

use std::io::ErrorKind;
use std::time::Duration;

use self::words::{Given, is_cut, none, words};
pub(super) use self::words::{json_line, whoami_words};
use super::args;
use super::knock::Sent;
use super::target::Target;
use crate::clock::Clock;
use crate::exit::{self, Exit, Failure};
use crate::sys::{self, ClockSync};
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
    // An answer proves the clock to be right.
    let unheard = heard.iter().all(|heard| heard.receipt.is_none());
    if !args.quiet && unheard && sys::clock_sync() == Some(ClockSync::Unsynchronized) {
        exit::note(
            "warning: this machine's clock is not synchronized; a server refuses a knock that is minutes off",
        );
    }
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
        let cut = sent.hold.is_some_and(|hold| is_cut(hold, &receipt, patience));
        let words = words(what, &receipt, if cut { Given::Less } else { Given::Asked });
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
        // Where one family is nobody's, the other's word is enough.
        let done = heard.iter().any(|heard| heard.is_good() && heard.is_final());
        let waits = |heard: &Heard| !(heard.is_final() || done && heard.error.is_some());
        let waiting = heard.iter().filter(|heard| waits(heard)).count();
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
        for (sent, heard) in sent.iter().zip(&mut heard).filter(|(_, heard)| waits(heard)) {
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

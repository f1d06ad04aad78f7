//! Who gets through a flood: ten valid knocks a second while garbage comes.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::contender::{Contender, Knock, Limits, Running};
use crate::garbage::{Garbage, Kind, Seen};
use crate::load::{Flood, Sent, Sources};
use crate::stats::percentile;
use crate::{Try, clock};

/// One flood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// Datagrams a second that are asked for.
    pub(crate) rate: u64,
    pub(crate) sources: Sources,
    pub(crate) knocker: Knocker,
}

/// Where the valid knocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knocker {
    /// An address that knocked well before, and sends no garbage.
    Known,
    /// The flooder's own address, which never knocked well.
    Flooder,
    /// A new address for each knock.
    Stranger,
}

impl Knocker {
    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Knocker::Known => "known",
            Knocker::Flooder => "the flooder's",
            Knocker::Stranger => "unknown",
        }
    }
}

/// What became of the knocks.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) who: &'static str,
    pub(crate) case: Case,
    pub(crate) garbage: Sent,
    /// Valid knocks sent, and those whose script ran.
    pub(crate) knocks: usize,
    pub(crate) ran: usize,
    /// Milliseconds from send to first instruction.
    pub(crate) latencies: Vec<f64>,
    /// KiB of all the daemon's processes: before, and the most during.
    pub(crate) pss: (u64, u64),
    /// Lines of log beyond those of the valid knocks that ran, late ones included.
    pub(crate) lines: i64,
    /// Datagrams that cost a private-key operation, where the daemon counts them.
    pub(crate) opened: Option<u64>,
}

impl Outcome {
    /// The share of the knocks that ran.
    pub(crate) fn share(&self) -> f64 {
        self.ran as f64 / self.knocks as f64
    }

    /// 99 of 100 knocks that ran were faster, in milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        percentile(&self.latencies, 0.99)
    }
}

/// Floods a daemon that was started for it.
pub(crate) fn flood(
    contender: &dyn Contender,
    case: Case,
    time: Duration,
    arrivals: &Arrivals,
) -> Try<Outcome> {
    let running = contender.start(Limits::Shipped)?;
    let fresh = running.process.lines()?;
    let known = knock_well(contender, &running, case.knocker, arrivals)?;
    let quiet = running.process.lines()?;
    let lines_each = (quiet - fresh) / known.len();

    let knocks = contender.knocks(time.as_millis() as usize / EVERY.as_millis() as usize)?;
    let seen =
        Seen { beacon: contender.beacon(), knocks: known.into_iter().map(|knock| knock.datagram).collect() };
    let before = running.process.pss();
    let flood = Flood::start(Garbage::new(case.kind, &seen), case.rate, case.sources, running.to)?;
    std::thread::sleep(EVERY * 5);
    let (sent_at, most) = send(&running, &knocks, case.knocker)?;
    // Those still under way get another second.
    let deadline = clock::nanos() + LATE;
    let latencies = arrived(&knocks, &sent_at, deadline, arrivals);
    let garbage = flood.stop()?;
    std::thread::sleep(EVERY * 3);

    let all_ran = latencies.len() + arrived(&knocks, &sent_at, 0, arrivals).len();
    let lines = running.process.lines()? as i64 - quiet as i64 - (lines_each * all_ran) as i64;
    let opened = opened(&running.process.stop()?);
    Ok(Outcome {
        who: contender.name(),
        case,
        garbage,
        knocks: knocks.len(),
        ran: latencies.len(),
        latencies,
        pss: (before, most.max(before)),
        lines,
        opened,
    })
}

/// Knocks that run before the flood: from the address that is to be known, or, for the other cases, from one that does
/// not come again.
fn knock_well(
    contender: &dyn Contender,
    running: &Running,
    knocker: Knocker,
    arrivals: &Arrivals,
) -> Try<Vec<Knock>> {
    let from = match knocker {
        Knocker::Known => KNOWN,
        Knocker::Flooder | Knocker::Stranger => ELSEWHERE,
    };
    let knocks = contender.knocks(8)?;
    for (at, knock) in knocks.iter().enumerate() {
        // A door that is open runs nothing.
        let from = match knocker {
            Knocker::Known | Knocker::Flooder => from,
            Knocker::Stranger => Ipv4Addr::from(u32::from(from) + at as u32),
        };
        let socket = UdpSocket::bind((from, 0))?;
        socket.send_to(&knock.datagram, running.to)?;
        arrivals.of(knock.token, clock::nanos() + LATE).ok_or("a knock before the flood did not run")?;
    }
    // Its last lines are written when the script has been reaped.
    std::thread::sleep(EVERY);
    Ok(knocks)
}

/// Sends them one by one; when each was sent, and the most memory that was seen.
fn send(running: &Running, knocks: &[Knock], knocker: Knocker) -> Try<(Vec<u64>, u64)> {
    let (start, mut most) = (clock::nanos(), 0);
    let mut sent_at = Vec::with_capacity(knocks.len());
    for (at, knock) in knocks.iter().enumerate() {
        clock::sleep_until(start + clock::ns(EVERY) * at as u64);
        let from = match knocker {
            Knocker::Known => KNOWN,
            Knocker::Flooder => FLOODER,
            Knocker::Stranger => Ipv4Addr::from(u32::from(KNOWN) + 256 + at as u32),
        };
        let socket = UdpSocket::bind((from, 0))?;
        sent_at.push(clock::nanos());
        socket.send_to(&knock.datagram, running.to)?;
        if at % 10 == 5 {
            most = most.max(running.process.pss());
        }
    }
    Ok((sent_at, most))
}

/// Milliseconds that each took, of those that ran.
fn arrived(knocks: &[Knock], sent_at: &[u64], deadline: u64, arrivals: &Arrivals) -> Vec<f64> {
    let mut latencies = Vec::new();
    while latencies.len() < knocks.len()
        && let Some(arrival) = arrivals.before(deadline)
    {
        let sent = knocks.iter().position(|knock| knock.token == arrival.token);
        latencies.extend(sent.map(|at| (arrival.at - sent_at[at]) as f64 / 1e6));
    }
    latencies
}

/// The counts of siglatchd's last line.
fn opened(log: &str) -> Option<u64> {
    let stopped = log.lines().rfind(|line| line.contains("code=stopped"))?;
    let count = |name: &str| {
        let field = stopped.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    Some(["ran", "not-authentic", "replay", "stale"].into_iter().map(count).sum())
}

/// The flooder with one address.
pub(crate) const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Outside of those that a flood with many sources uses.
const KNOWN: Ipv4Addr = Ipv4Addr::new(127, 200, 0, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 201, 0, 1);
/// Between two valid knocks.
const EVERY: Duration = Duration::from_millis(100);
/// In nanoseconds: a knock that did not run after this is lost.
const LATE: u64 = 1_000_000_000;

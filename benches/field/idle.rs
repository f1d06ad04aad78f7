//! One knock at a time: latency; and as many as the daemon takes: throughput.

use std::net::UdpSocket;
use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::contender::{Knock, Running};
use crate::ground::HERE;
use crate::shares::Times;
use crate::{Try, clock};

/// Microseconds from before the send to the script's first instruction, of each knock.
pub(crate) fn latency(
    running: &Running,
    knocks: &[Knock],
    pause: Duration,
    arrivals: &Arrivals,
) -> Try<Vec<f64>> {
    let socket = socket(running)?;
    let once = |knock: &Knock| {
        std::thread::sleep(pause);
        let start = clock::nanos();
        socket.send(&knock.datagram)?;
        let arrival = arrivals.of(knock.token, start + LOST);
        let arrival = arrival.ok_or_else(|| lost(running))?;
        Ok((arrival.at - start) as f64 / 1e3)
    };
    knocks.iter().map(once).collect()
}

/// Scripts a second with this many knocks under way all the time. One that does not come within a second is replaced
/// by another.
pub(crate) fn throughput(
    running: &Running,
    knocks: &[Knock],
    time: Duration,
    arrivals: &Arrivals,
) -> Try<Ran> {
    let socket = socket(running)?;
    let mut next = knocks.iter();
    let mut send = || -> Try<bool> {
        let Some(knock) = next.next() else { return Ok(false) };
        socket.send(&knock.datagram)?;
        Ok(true)
    };
    for _ in 0..WINDOW {
        send()?;
    }
    let before = Times::now(&running.process)?;
    let start = clock::nanos();
    let (mut ran, mut last) = (0_u64, start);
    while clock::nanos() < start + clock::ns(time) {
        if let Some(arrival) = arrivals.before(clock::nanos() + LOST) {
            ran += 1;
            last = arrival.at;
        }
        if !send()? {
            break;
        }
    }
    if ran == 0 {
        return Err(lost(running).into());
    }
    let shares = before.until(&running.process)?;
    // What is still under way must not count for the next measurement.
    while arrivals.before(clock::nanos() + LOST / 10).is_some() {}
    let per_second = ran as f64 * 1e9 / last.saturating_sub(start).max(1) as f64;
    Ok(Ran { scripts: ran, per_second, shares })
}

/// What came of a closed loop.
pub(crate) struct Ran {
    pub(crate) scripts: u64,
    pub(crate) per_second: f64,
    /// Who used how many seconds of the processors meanwhile.
    pub(crate) shares: Vec<(&'static str, f64)>,
}

fn socket(running: &Running) -> Try<UdpSocket> {
    let socket = UdpSocket::bind((HERE, 0))?;
    socket.connect(running.to)?;
    Ok(socket)
}

fn lost(running: &Running) -> String {
    format!("a knock on an idle server did not run:\n{}", running.process.log().unwrap_or_default())
}

/// After this many nanoseconds a knock is lost.
const LOST: u64 = 1_000_000_000;
/// Enough to keep two processors busy, few enough for any socket buffer.
const WINDOW: usize = 32;

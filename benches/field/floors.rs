//! What no knock system on this machine can be better than.

use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use siglatch::listener::opener::Opener;

use crate::arrivals::Arrivals;
use crate::contender::{Knock, token};
use crate::garbage::{Garbage, Kind, Seen};
use crate::ground::HERE;
use crate::load::{Flood, Sources};
use crate::{Try, clock};

/// Starts the script as barely as it can be.
fn spawn(script: &Path, fifo: &Path, token: u32) -> Try<Child> {
    let mut command = Command::new(script);
    command.arg(fifo).arg(token.to_string()).env_clear().current_dir("/");
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Microseconds of each: one private-key operation and then a bare spawn to the script's first instruction; and of
/// these, the spawn's.
pub(crate) fn latency(
    opener: &Opener,
    knocks: &[Knock],
    pause: Duration,
    script: &Path,
    arrivals: &Arrivals,
) -> Try<(Vec<f64>, Vec<f64>)> {
    let (mut both, mut spawns) = (Vec::new(), Vec::new());
    for knock in knocks {
        std::thread::sleep(pause);
        let start = clock::nanos();
        std::hint::black_box(opener.open(&knock.datagram));
        let opened = clock::nanos();
        let token = token();
        let mut child = spawn(script, &arrivals.fifo, token)?;
        let arrival = arrivals.of(token, opened + SECOND).ok_or("a bare script did not say that it ran")?;
        child.wait()?;
        both.push((arrival.at - start) as f64 / 1e3);
        spawns.push((arrival.at - opened) as f64 / 1e3);
    }
    Ok((both, spawns))
}

/// Private-key operations a second, on all processors at once.
pub(crate) fn opened_per_second(opener: &Opener, knock: &Knock, time: Duration) -> Try<f64> {
    on_all_processors(time, || {
        std::hint::black_box(opener.open(&knock.datagram));
        Ok(())
    })
}

/// Scripts started, run and reaped a second, on all processors at once.
pub(crate) fn spawned_per_second(script: &Path, fifo: &Path, time: Duration) -> Try<f64> {
    on_all_processors(time, || {
        spawn(script, fifo, token())?.wait()?;
        Ok(())
    })
}

/// Datagrams of 256 bytes received and dropped for each second of processor time.
pub(crate) fn received_per_second(time: Duration) -> Try<f64> {
    let socket = UdpSocket::bind((HERE, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let to = SocketAddrV4::new(HERE, socket.local_addr()?.port());
    let flood =
        Flood::start(Garbage::new(Kind::RightLength, &Seen::default()), 1_000_000, Sources::One(HERE), to)?;
    let (mut buffer, mut received) = ([0; 2048], 0_u64);
    let (start, busy) = (clock::nanos(), clock::thread_nanos());
    while clock::nanos() < start + clock::ns(time) {
        received += u64::from(socket.recv_from(&mut buffer).is_ok());
    }
    let busy = clock::thread_nanos() - busy;
    flood.stop()?;
    Ok(received as f64 * 1e9 / busy as f64)
}

fn on_all_processors(time: Duration, once: impl Fn() -> Try<()> + Sync) -> Try<f64> {
    let processors = std::thread::available_parallelism()?.get();
    let ready = Barrier::new(processors);
    let counts: Vec<Try<f64>> = std::thread::scope(|scope| {
        let work = || {
            ready.wait();
            let start = clock::nanos();
            let mut count = 0.0;
            while clock::nanos() < start + clock::ns(time) {
                once()?;
                count += 1.0;
            }
            Ok(count * 1e9 / (clock::nanos() - start) as f64)
        };
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a floor ended".into())))
            .collect()
    });
    counts.into_iter().sum()
}

const SECOND: u64 = 1_000_000_000;

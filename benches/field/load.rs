//! The load generator: one thread that sends garbage at a pace.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rsa::rand_core::{OsRng, RngCore as _};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{MsgHdr, SockAddr, Socket};

use crate::garbage::Garbage;
use crate::{Try, clock};

/// Whom datagrams come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// One address.
    One(Ipv4Addr),
    /// A random one of the eight million of 127.0.0.0/9 for each.
    Each,
}

impl Sources {
    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sources::One(_) => "one address",
            Sources::Each => "new addresses",
        }
    }
}

/// A flood that runs.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Try<Sent>>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    pub(crate) seconds: f64,
}

impl Sent {
    /// The rate that was achieved.
    pub(crate) fn per_second(self) -> f64 {
        self.datagrams as f64 / self.seconds
    }
}

impl Flood {
    /// Starts it in this thread's network namespace: so many a second.
    pub(crate) fn start(garbage: Garbage, rate: u64, from: Sources, to: SocketAddrV4) -> Try<Flood> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let mut sender = Sender::new(from, to)?;
        let thread = std::thread::spawn(move || pace(garbage, rate, &mut sender, &told));
        Ok(Flood { stop, thread })
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Try<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the load generator ended")?
    }
}

fn pace(mut garbage: Garbage, rate: u64, sender: &mut Sender, stop: &AtomicBool) -> Try<Sent> {
    let start = clock::nanos();
    // What could not be sent in time is not made up for in a burst: only so much of it.
    let most_behind = (rate / 200).max(BATCH as u64);
    let (mut sent, mut skipped) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (clock::nanos() - start) as u128 * u128::from(rate) / 1_000_000_000;
        let behind = (due as u64).saturating_sub(sent + skipped);
        skipped += behind.saturating_sub(most_behind);
        match behind.min(BATCH as u64) {
            0 => std::thread::sleep(Duration::from_micros(500)),
            count => sent += sender.send(&mut garbage, count as usize)?,
        }
    }
    let seconds = (clock::nanos() - start) as f64 / 1e9;
    Ok(Sent { datagrams: sent, seconds })
}

/// One socket, used in the way that is fastest for its sources.
enum Sender {
    /// Connected; many datagrams in one call.
    One(UdpSocket),
    /// The source comes with each datagram (IP_PKTINFO).
    Each { socket: Socket, to: SockAddr, state: u32 },
}

impl Sender {
    fn new(from: Sources, to: SocketAddrV4) -> Try<Sender> {
        Ok(match from {
            Sources::One(from) => {
                let socket = UdpSocket::bind((from, 0))?;
                socket.connect(to)?;
                Sender::One(socket)
            }
            Sources::Each => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.into();
                Sender::Each { socket, to: to.into(), state: OsRng.next_u32() | 1 }
            }
        })
    }

    /// How many of `count` were sent. One that the kernel does not take is lost, as on any network.
    fn send(&mut self, garbage: &mut Garbage, count: usize) -> Try<u64> {
        let batch = garbage.batch(count);
        match self {
            Sender::One(socket) => {
                let slices: Vec<_> = batch.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
                let mut none: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
                let mut messages: Vec<_> =
                    slices.iter().zip(&mut none).map(|(slice, none)| MMsgHdr::new(slice, none)).collect();
                Ok(sendmmsg(socket, &mut messages, SendFlags::empty()).unwrap_or(0) as u64)
            }
            Sender::Each { socket, to, state } => {
                let mut sent = 0;
                for datagram in batch {
                    *state = xorshift(*state);
                    let control = packet_info(Ipv4Addr::from(127 << 24 | *state & 0x7f_ffff));
                    let slices = [IoSlice::new(datagram)];
                    let message = MsgHdr::new().with_addr(to).with_buffers(&slices).with_control(&control);
                    sent += u64::from(socket.sendmsg(&message, 0).is_ok());
                }
                Ok(sent)
            }
        }
    }
}

/// A `cmsghdr` with an `in_pktinfo` behind it, whose second field is the source to send from.
fn packet_info(source: Ipv4Addr) -> [u8; CONTROL] {
    let mut control = [0; CONTROL];
    let (length, level, kind) = (HEADER + size_of::<libc::in_pktinfo>(), libc::IPPROTO_IP, libc::IP_PKTINFO);
    let fields = length.to_ne_bytes().into_iter().chain(level.to_ne_bytes()).chain(kind.to_ne_bytes());
    let interface = [0; 4];
    let fields = fields.chain(interface).chain(source.octets());
    control.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    control
}

fn xorshift(mut state: u32) -> u32 {
    state ^= state << 13;
    state ^= state >> 17;
    state ^ state << 5
}

/// Datagrams for one call.
const BATCH: usize = 64;
const HEADER: usize = size_of::<libc::cmsghdr>();
const CONTROL: usize = (HEADER + size_of::<libc::in_pktinfo>()).next_multiple_of(size_of::<usize>());

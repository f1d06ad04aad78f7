#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::{SockFilter, SockRef};

use super::*;

/// A socket on the loopback device, and one that sends to it.
struct Wire {
    to: UdpSocket,
    from: UdpSocket,
    serial: u32,
}

impl Wire {
    fn new() -> Wire {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Wire { to, from, serial: 0 }
    }

    fn attach(&self, sieve: &Sieve<'_>) {
        let attach = |program: Vec<sock_filter>| {
            let program: Vec<_> =
                program.iter().map(|line| SockFilter::new(line.code, line.jt, line.jf, line.k)).collect();
            SockRef::from(&self.to).attach_filter(&program)
        };
        // Older kernels have no room for two of the longest at once.
        attach(sieve.program()).or_else(|_| attach(open()).and_then(|()| attach(sieve.program()))).unwrap();
    }

    /// Which of these come through, by their place. `last` is a datagram that does, and is sent behind them.
    fn passing(&mut self, datagrams: &[Vec<u8>], last: &[u8]) -> BTreeSet<usize> {
        let mut passed = BTreeSet::new();
        // So few at a time that the socket's buffer holds them.
        for (chunk, datagrams) in (0..).zip(datagrams.chunks(50)) {
            for datagram in datagrams {
                self.from.send(datagram).unwrap();
            }
            self.serial += 1;
            let end = [last, &[]].concat();
            self.from.send(&end).unwrap();
            let mut next = 0;
            let mut buffer = [0; 2048];
            loop {
                let len = self.to.recv(&mut buffer).expect("the last one comes through");
                if buffer[..len] == end {
                    break;
                }
                let at = datagrams[next..].iter().position(|datagram| *datagram == buffer[..len]);
                next += at.expect("whole and in order") + 1;
                passed.insert(chunk * 50 + next - 1);
            }
        }
        passed
    }

    /// Datagrams that the kernel dropped in front of the socket.
    fn drops(&self) -> u64 {
        let port = format!(":{:04X}", self.to.local_addr().unwrap().port());
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let line =
            table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&port)));
        line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
    }
}

fn modulus(len: usize) -> Vec<u8> {
    (0..len).map(|at| 0xb0 ^ u8::try_from(at % 251).unwrap()).collect()
}

fn beacons(random: &mut StdRng, count: usize) -> Vec<[u8; 8]> {
    let mut beacons: Vec<[u8; 8]> = (0..count).map(|_| random.random()).collect();
    if count > 3 {
        // Two that begin alike, two that end alike: the sieve must not mistake one for another.
        let (first, last) = (beacons[0], beacons[count - 1]);
        beacons[1][..4].copy_from_slice(&first[..4]);
        beacons[2][4..].copy_from_slice(&last[4..]);
    }
    beacons
}

/// A datagram near every edge.
fn datagram(random: &mut StdRng, sieve: &Sieve<'_>) -> Vec<u8> {
    let base = sieve.modulus.len();
    let lengths =
        [base, base + STAMP_LEN, base - 1, base + 1, base + STAMP_LEN - 1, base + STAMP_LEN + 1, base + 8];
    let len = match random.random_range(0..12) {
        at @ 0..7 => lengths[at],
        7 => random.random_range(0..base * 2),
        8 | 9 => base,
        _ => base + STAMP_LEN,
    };
    let mut bytes = vec![0; len];
    random.fill(&mut bytes[..]);
    let word = sieve.first_word();
    let word = match random.random_range(0..5) {
        0 => word,
        1 => word + 1,
        2 => word - 1,
        3 => random.random(),
        _ => word / 2,
    };
    if let Some(first) = bytes.first_chunk_mut() {
        *first = word.to_be_bytes();
    }
    if let Some(beacon) = bytes.get_mut(base..base + 8)
        && !sieve.beacons.is_empty()
    {
        let mut choose = || sieve.beacons[random.random_range(0..sieve.beacons.len())];
        let (one, other) = (choose(), choose());
        beacon.copy_from_slice(&one);
        match random.random_range(0..4) {
            0 => beacon[random.random_range(0..8)] ^= 1 << random.random_range(0..8),
            1 => beacon[..4].copy_from_slice(&other[..4]),
            _ => {}
        }
    }
    bytes
}

/// What the listener would not drop at once, as far as the kernel can tell.
fn wanted(sieve: &Sieve<'_>, bytes: &[u8]) -> bool {
    let base = sieve.modulus.len();
    let below = || bytes[..4] <= sieve.modulus[..4];
    let plain = sieve.takes != Takes::Stamped && sieve.plain == Plain::Taken;
    let stamped = sieve.takes != Takes::Plain;
    if bytes.len() == base {
        plain && below()
    } else {
        let beacon = || sieve.beacons.iter().any(|beacon| bytes[base..base + 8] == *beacon);
        bytes.len() == base + STAMP_LEN && stamped && below() && beacon()
    }
}

#[test]
fn the_kernel_lets_through_exactly_what_the_listener_would_look_at() {
    let mut random = StdRng::seed_from_u64(5);
    let mut wire = Wire::new();
    let mut cases = 0;
    // 13 beacons are the window at 5 minutes and one at either end, 115 at an hour; twice as many while two keys are good.
    for (len, count) in [(256, 13), (256, 115), (256, 26), (256, 230), (256, 1), (512, 13), (1024, 13)] {
        for takes in [Takes::Plain, Takes::Stamped, Takes::Both] {
            for plain in [Plain::Taken, Plain::Refused] {
                let (modulus, beacons) = (modulus(len), beacons(&mut random, count));
                let sieve = Sieve { takes, plain, share: None, modulus: &modulus, beacons: &beacons };
                let datagrams: Vec<_> = (0..1000).map(|_| datagram(&mut random, &sieve)).collect();
                let mut last = vec![0; len];
                if takes != Takes::Plain {
                    last.extend(beacons[count - 1]);
                    last.resize(len + STAMP_LEN, 0);
                } else if plain == Plain::Refused {
                    // Nothing comes through: an open door is put behind them.
                    wire.attach(&sieve);
                    datagrams.iter().take(50).for_each(|datagram| drop(wire.from.send(datagram)));
                    let open = Sieve { plain: Plain::Taken, ..sieve };
                    wire.attach(&open);
                    assert!(wire.passing(&[], &last).is_empty());
                    cases += 1;
                    continue;
                }
                wire.attach(&sieve);
                let wanted: BTreeSet<_> =
                    (0..datagrams.len()).filter(|at| wanted(&sieve, &datagrams[*at])).collect();
                assert!(wanted.len() > 20 && wanted.len() < 900, "{} tell nothing", wanted.len());
                let passed = wire.passing(&datagrams, &last);
                assert_eq!(passed, wanted, "{takes:?} {plain:?} {len} {count}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 42);
}

#[test]
fn what_is_sieved_out_raises_the_drop_counter_and_takes_no_room() {
    let mut wire = Wire::new();
    let modulus = modulus(256);
    let beacons = [[1; 8]];
    wire.attach(&Sieve {
        takes: Takes::Stamped,
        plain: Plain::Taken,
        share: None,
        modulus: &modulus,
        beacons: &beacons,
    });
    let mut good = vec![0; 256];
    good.extend([1; 32]);
    let mut bad = good.clone();
    bad[263] = 2;
    let before = wire.drops();
    // Many more than the buffer would hold.
    for number in 0..5000 {
        wire.from.send(if number % 2 == 0 { &bad } else { &good[..256] }).unwrap();
    }
    assert!(wire.passing(&[], &good).is_empty());
    assert_eq!(wire.drops() - before, 5000);
}

#[test]
fn a_share_of_the_plain_ones_is_let_through_by_chance_and_every_stamped_one() {
    let mut wire = Wire::new();
    let modulus = modulus(256);
    let beacons = [[1; 8]];
    for (halvings, expected) in [(1, 2000.0), (3, 500.0)] {
        let share = Some(u32::MAX >> halvings);
        let sieve =
            Sieve { takes: Takes::Both, plain: Plain::Taken, share, modulus: &modulus, beacons: &beacons };
        wire.attach(&sieve);
        let plain: Vec<_> = (0..4000u32)
            .map(|number| [number.to_be_bytes().map(|byte| byte & 0x7f).as_slice(), &[7; 252]].concat())
            .collect();
        let mut last = vec![0; 256];
        last.extend([1; 32]);
        let passed = wire.passing(&plain, &last).len() as f64;
        assert!((passed - expected).abs() < 200.0, "{passed} of 4000, {expected} expected");
    }
}

#[test]
fn the_longest_window_and_key_fit_into_what_the_kernel_takes() {
    let modulus = modulus(1024);
    let beacons = vec![[1; 8]; 3600 * 2 / 64 + 4];
    let sieve = Sieve {
        takes: Takes::Both,
        plain: Plain::Taken,
        share: Some(1),
        modulus: &modulus,
        beacons: &beacons,
    };
    let program = sieve.program();
    assert!(program.len() < 30 + 5 * beacons.len() && program.len() < 4096, "{}", program.len());
    Wire::new().attach(&sieve);
}

#[test]
fn of_every_length_up_to_six_hundred_only_the_two_come_through() {
    let mut wire = Wire::new();
    let modulus = modulus(256);
    let beacons = [[1; 8]];
    for (takes, lengths) in
        [(Takes::Plain, vec![256]), (Takes::Stamped, vec![288]), (Takes::Both, vec![256, 288])]
    {
        let sieve = Sieve { takes, plain: Plain::Taken, share: None, modulus: &modulus, beacons: &beacons };
        wire.attach(&sieve);
        let before = wire.drops();
        let datagrams: Vec<_> = (0..=600).map(|len| vec![1; len]).collect();
        let mut last = datagrams[lengths[0]].clone();
        last[0] = 0;
        let passed = wire.passing(&datagrams, &last);
        assert_eq!(passed, lengths.iter().copied().collect());
        assert_eq!(wire.drops() - before, 601 - lengths.len() as u64, "the others are counted as dropped");
    }
}

#[test]
fn a_filter_is_replaced_without_a_gap() {
    let mut wire = Wire::new();
    let modulus = modulus(256);
    let good = [[0; 256].as_slice(), &[1; 32]].concat();
    let junk = [[0; 256].as_slice(), &[9; 32]].concat();
    let beacons = [vec![[1; 8]; 1], vec![[1; 8]; 115]];
    let sieves = beacons.each_ref().map(|beacons| Sieve {
        takes: Takes::Stamped,
        plain: Plain::Taken,
        share: None,
        modulus: &modulus,
        beacons,
    });
    wire.attach(&sieves[0]);
    let before = wire.drops();
    let from = wire.from.try_clone().unwrap();
    let (sent, bytes) = (20_000, good.clone());
    let sender = std::thread::spawn(move || {
        for number in 0..sent {
            from.send(if number % 2 == 0 { &bytes } else { &junk }).unwrap();
        }
    });
    let (mut received, mut replaced) = (0, 0);
    let mut buffer = [0; 2048];
    wire.to.set_nonblocking(true).unwrap();
    let mut finished = false;
    loop {
        wire.attach(&sieves[replaced % 2]);
        replaced += 1;
        while let Ok(len) = wire.to.recv(&mut buffer) {
            assert_eq!(&buffer[..len], good);
            received += 1;
        }
        if finished {
            break;
        }
        finished = sender.is_finished();
    }
    assert!(replaced > 100, "replaced {replaced} times only");
    // What is good and did not come had no room: the buffer holds less than was sent.
    assert_eq!(received + wire.drops() - before, sent);
    wire.to.set_nonblocking(false).unwrap();
    assert!(wire.passing(&[], &good).is_empty(), "and it still works");
}

//! The first look at a datagram, and the kernel's filter in front of it.

use std::time::Duration;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MEM, BPF_MISC, BPF_RET, BPF_ST, BPF_TAX,
    BPF_TXA, BPF_W, SKF_AD_OFF, SKF_AD_RANDOM, sock_filter,
};

use super::knock::{MODULUS, Stamp};
use super::menu;
use super::operands::Operands;
use crate::channel::{Lane, Plain, SocketId, Takes};
use crate::clock::Now;
use crate::listener::filter::{Sieve, by_length};
use crate::listener::{Datagram, Step, Supply};
use crate::reason::DropReason;
use crate::wire::stamp::{Epoch, Stamped};

/// Makes a filter, and up to an epoch later or earlier, for clocks are set, shows a datagram to it and to the listener:
/// what the listener opens has come through. The operands: which configuration, seconds until the filter is made, from
/// then to the datagram (signed), what the socket takes, the share of plain ones, the kernel's random number, whether
/// bytes are sent or sealed and stamped, and those of `Operands::pattern` and `Stamp::read`. The lane, if it is opened.
pub fn sieve(data: &[u8]) -> Option<Lane> {
    let operands = &mut Operands::new(data);
    let configs = menu::configs();
    let config = &configs[usize::from(operands.u8()?) % configs.len()];
    let made = menu::START.as_secs() + u64::from(operands.u8()?);
    let epoch = Epoch::SECONDS.cast_signed();
    let later = i64::from(operands.u8()?.cast_signed()).clamp(-epoch, epoch);
    let at =
        |unix| Now { mono: Duration::from_secs(600), boot: Duration::ZERO, wall: Duration::from_secs(unix) };
    let (made, now) = (at(made), at(made.saturating_add_signed(later)));
    let takes = [Takes::Plain, Takes::Stamped, Takes::Both][usize::from(operands.u8()? % 3)];
    let share = Some(u32::MAX >> (operands.u8()? % 11)).filter(|share| *share < u32::MAX);
    let random = u32::from(operands.u16()?) << 16;

    let mut admission = menu::admission(made, MODULUS.to_vec(), config);
    let (plain, beacons) = (admission.plain(), admission.beacons());
    let program = Sieve { takes, plain, share, modulus: &MODULUS, beacons: &beacons }.program();
    let bytes = match operands.u8()? % 2 {
        0 => operands.pattern(600)?,
        _ => {
            let mut sealed = operands.pattern(600)?;
            sealed.resize(MODULUS.len(), 0);
            let stamp = Stamp::read(operands)?;
            stamp.spoil(stamp.make(sealed, now.unix()))
        }
    };
    let passes = run(&program, &[&[0; 8], bytes.as_slice()].concat(), random);
    assert!([0, u32::MAX].contains(&passes), "cut to {passes}");
    assert_eq!(run(&by_length(MODULUS.len()), &bytes, random), u32::from(bytes.len() == STAMPED));

    let _sieved_anew_by_a_loop = admission.tick(now);
    let source = menu::source(0);
    let datagram =
        Datagram { source, local: [127, 0, 0, 1].into(), socket: SocketId(0), takes, bytes: &bytes };
    assert_split(&bytes);
    match admission.datagram(now, Supply::Ample, datagram) {
        Step::Open(sealed) => {
            assert_eq!(sealed.ciphertext(), &bytes[..MODULUS.len()]);
            let stamped = bytes.len() == STAMPED;
            assert_eq!(matches!(sealed.lane(), Lane::Stamped(_)), stamped);
            let taken = stamped || share.is_none_or(|share| random <= share);
            assert_eq!(passes == u32::MAX, taken, "{takes:?} {plain:?} {share:?}");
            return Some(sealed.lane());
        }
        Step::Drop(DropReason::Length) => assert_eq!(passes, 0),
        Step::Drop(DropReason::Unstamped) => assert_eq!((plain, passes), (Plain::Refused, 0)),
        Step::Drop(_) => {}
    }
    None
}

/// WIRE.md "Stamp".
fn assert_split(bytes: &[u8]) {
    let parts = Stamped::split(bytes, MODULUS.len());
    assert_eq!(parts.is_some(), bytes.len() == STAMPED);
    if let Some(parts) = parts {
        assert_eq!((parts.sealed, &parts.beacon[..]), (&bytes[..256], &bytes[256..264]));
        assert_eq!((&parts.hint[..], parts.tagged), (&bytes[264..272], &bytes[..272]));
        assert_eq!(parts.tag[..], bytes[272..]);
    }
}

/// Classic BPF as Linux runs it, as far as our programs go: how many bytes of the packet are kept.
fn run(program: &[sock_filter], packet: &[u8], random: u32) -> u32 {
    let (mut a, mut x, mut memory, mut next) = (0, 0, [0; 16], 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[next];
        next += 1;
        let jump = |holds| usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            LOAD if k == RANDOM => a = random,
            // What reaches beyond the packet ends the program.
            LOAD => match packet.get(k as usize..).and_then(<[u8]>::first_chunk) {
                Some(word) => a = u32::from_be_bytes(*word),
                None => return 0,
            },
            LOAD_LEN => a = u32::try_from(packet.len()).expect("a datagram"),
            LOAD_MEMORY => a = memory[k as usize],
            STORE => memory[k as usize] = a,
            TO_X => x = a,
            FROM_X => a = x,
            JUMP_EQUAL => next += jump(a == k),
            JUMP_GREATER => next += jump(a > k),
            RETURN => return k,
            other => panic!("no program of ours has {other:#x}"),
        }
    }
}

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const LOAD_LEN: u32 = BPF_LD | BPF_W | BPF_LEN;
const LOAD_MEMORY: u32 = BPF_LD | BPF_MEM;
const STORE: u32 = BPF_ST;
const TO_X: u32 = BPF_MISC | BPF_TAX;
const FROM_X: u32 = BPF_MISC | BPF_TXA;
const JUMP_EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const JUMP_GREATER: u32 = BPF_JMP | BPF_JGT | BPF_K;
const RETURN: u32 = BPF_RET | BPF_K;
const RANDOM: u32 = SKF_AD_OFF.wrapping_add(SKF_AD_RANDOM).cast_unsigned();

/// Of a stamped datagram, in bytes.
const STAMPED: usize = 288;

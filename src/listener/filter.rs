//! What the kernel drops before it takes a socket's buffer: a classic BPF program. Pure.
//!
//! It sees a datagram from its UDP header on, so 8 bytes further than the listener does. It is a sieve: the listener checks
//! everything again, and what was queued before a program changed is there still. A program that is attached replaces the
//! one before it at once.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MEM, BPF_MISC, BPF_RET, BPF_ST, BPF_TAX,
    BPF_TXA, BPF_W, SKF_AD_OFF, SKF_AD_RANDOM, sock_filter,
};

use crate::channel::{Plain, Takes};
use crate::wire::stamp::STAMP_LEN;

/// What a socket's filter lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sieve<'a> {
    /// The kind of datagram the socket is for.
    pub takes: Takes,
    /// Whether plain ones are taken at all.
    pub plain: Plain,
    /// How many of 2^32 plain ones; `None`: all.
    pub share: Option<u32>,
    /// Big-endian.
    pub modulus: &'a [u8],
    /// Of all epochs that the listener may take before the filter is replaced.
    pub beacons: &'a [[u8; 8]],
}

impl Sieve<'_> {
    /// The program: under 30 instructions and five for each beacon; the kernel takes 4096.
    pub fn program(&self) -> Vec<sock_filter> {
        let mut program = Vec::new();
        if self.takes != Takes::Stamped {
            self.plain_part(&mut program);
        }
        if self.takes != Takes::Plain {
            self.stamped_part(&mut program);
        }
        program.push(RETURN_NONE);
        program
    }

    fn plain_part(&self, program: &mut Vec<sock_filter>) {
        let mut part = vec![load(HEADER), jump(BPF_JGT, self.first_word(), 0, 1), RETURN_NONE];
        if let Some(share) = self.share {
            part.extend([load(RANDOM), jump(BPF_JGT, share, 0, 1), RETURN_NONE]);
        }
        part.push(match self.plain {
            Plain::Taken => RETURN_ALL,
            Plain::Refused => RETURN_NONE,
        });
        section(program, self.modulus.len(), part);
    }

    fn stamped_part(&self, program: &mut Vec<sock_filter>) {
        let len = self.modulus.len().saturating_add(STAMP_LEN);
        let at = u32::try_from(self.modulus.len()).unwrap_or(u32::MAX).saturating_add(HEADER);
        // It is longer than a jump can be, so what is not as long ends here instead of jumping over it.
        program.extend([LOAD_LEN, jump(BPF_JEQ, with_header(len), 1, 0), RETURN_NONE]);
        program.extend([load(HEADER), jump(BPF_JGT, self.first_word(), 0, 1), RETURN_NONE]);
        // A datagram is read once: its second word waits in X while the first, kept in memory too, is compared.
        program.extend([load(at.saturating_add(4)), TO_X, load(at), STORE]);
        for [a, b, c, d, e, f, g, h] in self.beacons.iter().copied() {
            program.extend([
                jump(BPF_JEQ, u32::from_be_bytes([a, b, c, d]), 0, 4),
                FROM_X,
                jump(BPF_JEQ, u32::from_be_bytes([e, f, g, h]), 0, 1),
                RETURN_ALL,
                // Two beacons may begin alike.
                RESTORE,
            ]);
        }
    }

    fn first_word(&self) -> u32 {
        self.modulus.first_chunk().map_or(u32::MAX, |word| u32::from_be_bytes(*word))
    }
}

/// Lets everything through.
pub fn open() -> Vec<sock_filter> {
    vec![RETURN_ALL]
}

/// For SO_ATTACH_REUSEPORT_CBPF on a pair of sockets: stamped datagrams to the second. It sees the payload alone.
pub fn by_length(modulus_len: usize) -> Vec<sock_filter> {
    let stamped = u32::try_from(modulus_len.saturating_add(STAMP_LEN)).unwrap_or(u32::MAX);
    vec![LOAD_LEN, jump(BPF_JEQ, stamped, 0, 1), ret(1), ret(0)]
}

/// The part, for datagrams of that length; the others go on behind it.
fn section(program: &mut Vec<sock_filter>, len: usize, part: Vec<sock_filter>) {
    // At most 7 instructions.
    let over = u8::try_from(part.len()).unwrap_or(u8::MAX);
    program.extend([LOAD_LEN, jump(BPF_JEQ, with_header(len), 0, over)]);
    program.extend(part);
}

fn with_header(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).saturating_add(HEADER)
}

fn load(at: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, at, 0, 0)
}

fn jump(comparison: u32, k: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, k, then, otherwise)
}

const fn ret(k: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, k, 0, 0)
}

#[expect(clippy::cast_possible_truncation, reason = "a code is a sum of flags below 256")]
const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const LOAD_LEN: sock_filter = instruction(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0);
const TO_X: sock_filter = instruction(BPF_MISC | BPF_TAX, 0, 0, 0);
const FROM_X: sock_filter = instruction(BPF_MISC | BPF_TXA, 0, 0, 0);
const STORE: sock_filter = instruction(BPF_ST, 0, 0, 0);
const RESTORE: sock_filter = instruction(BPF_LD | BPF_MEM, 0, 0, 0);

/// The whole datagram: a smaller number would cut it.
const RETURN_ALL: sock_filter = ret(u32::MAX);
const RETURN_NONE: sock_filter = ret(0);

/// Of UDP, in bytes.
const HEADER: u32 = 8;

/// A random word, 32 bits: from the kernel, by an address below zero.
const RANDOM: u32 = SKF_AD_OFF.wrapping_add(SKF_AD_RANDOM).cast_unsigned();

#[cfg(test)]
mod tests;

//! The bytes of a program, taken one after the other.

use std::net::SocketAddr;

use super::menu;

/// What is left of them. Each of its methods is `None` where it ends early.
pub(super) struct Operands<'a>(&'a [u8]);

impl<'a> Operands<'a> {
    pub(super) fn new(data: &'a [u8]) -> Operands<'a> {
        Operands(data)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (byte, left) = self.0.split_first()?;
        self.0 = left;
        Some(*byte)
    }

    /// Big-endian.
    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// As many of `len` bytes as there are.
    pub(super) fn bytes(&mut self, len: u8) -> &'a [u8] {
        let (bytes, left) = self.0.split_at(self.0.len().min(len.into()));
        self.0 = left;
        bytes
    }

    /// Length (2, big-endian, below `end`), how many bytes follow, these; they are repeated.
    pub(super) fn pattern(&mut self, end: usize) -> Option<Vec<u8>> {
        let (len, given) = (self.u16()?, self.u8()?);
        let pattern = match self.bytes(given) {
            [] => &[0],
            bytes => bytes,
        };
        Some(pattern.iter().copied().cycle().take(usize::from(len) % end).collect())
    }

    pub(super) fn source(&mut self) -> Option<SocketAddr> {
        self.u8().map(menu::source)
    }
}

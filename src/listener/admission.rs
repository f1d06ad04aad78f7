//! Which datagrams are worth a private-key operation. Pure.

use std::net::SocketAddr;

use crate::channel::SocketId;
use crate::reason::DropReason;

/// What a socket gave: bytes, cut if there were more than one above the longest datagram taken.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// As the kernel names it.
    pub source: SocketAddr,
    /// The socket it came in by.
    pub socket: SocketId,
    /// What was received.
    pub bytes: &'a [u8],
}

/// A datagram as long as the modulus and below it.
#[derive(Debug)]
pub struct Sealed {
    source: SocketAddr,
    socket: SocketId,
    ciphertext: Box<[u8]>,
}

impl Sealed {
    /// Where it came from; `::ffff:` folded.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The socket it came in by.
    pub fn socket(&self) -> SocketId {
        self.socket
    }

    /// As many bytes as the modulus has.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}

/// What to do with a datagram.
#[must_use]
#[derive(Debug)]
pub enum Step {
    /// Open it.
    Open(Sealed),
    /// Drop and count it.
    Drop(DropReason),
}

/// Looks at datagrams before any key does.
#[derive(Debug)]
pub struct Admission {
    modulus: Vec<u8>,
}

impl Admission {
    /// For a server with this modulus, big-endian.
    pub fn new(modulus: Vec<u8>) -> Admission {
        Admission { modulus }
    }

    /// A buffer in which a datagram that is too long is seen to be too long.
    pub fn buffer(&self) -> Vec<u8> {
        vec![0; self.modulus.len().saturating_add(1)]
    }

    /// Decides.
    pub fn datagram(&self, datagram: Datagram<'_>) -> Step {
        let Datagram { source, socket, bytes } = datagram;
        if bytes.len() != self.modulus.len() {
            return Step::Drop(DropReason::Length);
        }
        // Both are public, and equally long: as numbers they compare as their bytes do.
        if bytes >= self.modulus.as_slice() {
            return Step::Drop(DropReason::Range);
        }
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        Step::Open(Sealed { source, socket, ciphertext: bytes.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(bytes: &[u8]) -> Step {
        let source = "[::ffff:192.0.2.1]:9".parse().unwrap();
        Admission::new(vec![0xb0; 256]).datagram(Datagram { source, socket: SocketId(0), bytes })
    }

    #[test]
    fn only_the_modulus_length_goes_on() {
        let admission = Admission::new(vec![0xb0; 256]);
        let buffer = admission.buffer();
        assert_eq!(buffer.len(), 257, "a longer datagram must not look like one of 256 bytes");
        for len in (0..=buffer.len()).filter(|len| *len != 256) {
            assert!(matches!(step(&vec![1; len]), Step::Drop(DropReason::Length)), "{len}");
        }
        assert!(matches!(step(&[1; 256]), Step::Open(_)));
    }

    #[test]
    fn what_is_not_below_the_modulus_costs_no_operation() {
        let mut edge = vec![0xb0; 256];
        assert!(matches!(step(&edge), Step::Drop(DropReason::Range)), "the modulus itself");
        edge[255] = 0xb1;
        assert!(matches!(step(&edge), Step::Drop(DropReason::Range)));
        edge[255] = 0xaf;
        assert!(matches!(step(&edge), Step::Open(_)));
    }

    #[test]
    fn a_mapped_source_is_folded() {
        let Step::Open(sealed) = step(&[1; 256]) else { panic!("dropped") };
        assert_eq!(sealed.source(), "192.0.2.1:9".parse().unwrap());
    }
}

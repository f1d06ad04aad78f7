//! The reply to a plain knock, as siglatch v1 clients read it. WIRE.md "The v1 reply".
//!
//! A packet like the request's, with timestamp, user and challenge copied from it and action id 0, sealed with the
//! user's public key. Its payload:
//!
//! ```text
//! status u8 (1 OK, 2 ERROR) | the request's action id u8 | flags u8 (bit 0: text was cut) | text
//! ```

use zeroize::Zeroizing;

use super::packet::{self, Head};
use super::receipt::cut;
use super::{ActionId, Binding, HmacKey, Nonce, PAYLOAD_MAX, PLAINTEXT_LEN};

/// Longest text, in bytes.
pub const TEXT_MAX: usize = PAYLOAD_MAX - 3;

/// What a server says about a plain knock that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request's timestamp, user and challenge.
    pub request: Nonce,
    /// What was asked for.
    pub action: ActionId,
    /// How it ended.
    pub outcome: Outcome,
    /// For people; beyond [`TEXT_MAX`] bytes it is cut between two characters, and marked as cut.
    pub text: &'a str,
}

/// How what ran has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Well.
    Ok = 1,
    /// Not well.
    Error = 2,
}

impl Reply<'_> {
    /// The 245 bytes, signed with the user's key, to be sealed with his public one.
    pub fn encode(&self, key: &HmacKey) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
        let text = cut(self.text, TEXT_MAX);
        let flags = u8::from(text.len() < self.text.len());
        let payload = [&[self.outcome as u8, self.action.number(), flags], text.as_bytes()].concat();
        let Nonce { timestamp, user, challenge } = self.request;
        packet::sign(key, Head { timestamp, user, action: REPLY, challenge }, &payload, Binding::None)
    }
}

/// The action id of replies.
const REPLY: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Bound, Packet, ServerId, UserId, mac};

    fn encoded(outcome: Outcome, text: &str) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
        let request = Nonce { timestamp: 0x6b00_e0d3, user: UserId(0x0201), challenge: 0x0403_0201 };
        let action = ActionId::new(3).unwrap();
        Reply { request, action, outcome, text }.encode(&HmacKey::new([7; 32]).unwrap())
    }

    #[test]
    fn a_reply_is_byte_for_byte_what_the_wire_says() {
        let plain = encoded(Outcome::Error, "3: ERROR fail rc=1");
        assert_eq!(plain[..12], [1, 0xd3, 0xe0, 0, 0x6b, 1, 2, 0, 1, 2, 3, 4]);
        assert_eq!(plain[44..46], [21, 0]);
        assert_eq!(plain[46..49], [2, 3, 0]);
        assert_eq!(&plain[49..67], b"3: ERROR fail rc=1");
        assert!(plain[67..].iter().all(|byte| *byte == 0));
        let packet = Packet::decode(&*plain).unwrap();
        let key = HmacKey::new([7; 32]).unwrap();
        let bound = mac::verify(&key, &packet.signed, packet.hmac, ServerId([1; 16]), [192, 0, 2, 1].into());
        assert_eq!(bound, Some(Bound::None));
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut_between_characters_and_marked() {
        let fits = "a".repeat(TEXT_MAX);
        let plain = encoded(Outcome::Ok, &fits);
        assert_eq!((plain[44], plain[46], plain[48]), (199, 1, 0));
        let plain = encoded(Outcome::Ok, &format!("{}\u{e9}", &fits[1..]));
        assert_eq!((plain[44], plain[48]), (198, 1));
    }
}

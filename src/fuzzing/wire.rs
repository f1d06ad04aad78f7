//! Packets, receipts, channel messages, invites.

use super::recorded::{SERVER, recorded};
use crate::channel::{ToKeeper, ToListener};
use crate::wire::mac::{self, Signed};
use crate::wire::receipt::{RECEIPT_MAX, TEXT_MAX};
use crate::wire::server_key::Piece;
use crate::wire::{
    ActionId, Binding, Bound, HmacKey, Invite, Knock, PAYLOAD_MAX, PLAINTEXT_LEN, Packet, Receipt,
};
use rsa::rand_core::OsRng;

/// Decodes as a packet. What decodes has its fields where WIRE.md says, and signed it verifies for what it was signed for
/// and nothing more.
pub fn packet(data: &[u8]) {
    let len = |plain: &[u8]| usize::from(u16::from_le_bytes([plain[44], plain[45]]));
    let good = data.len() == PLAINTEXT_LEN && data[0] == 1 && len(data) <= PAYLOAD_MAX;
    let packet = Packet::decode(data);
    assert_eq!(packet.is_ok(), good);
    let Ok(packet) = packet else { return };
    assert_eq!(packet.timestamp.to_le_bytes(), data[1..5]);
    assert_eq!(packet.user.0.to_le_bytes(), data[5..7]);
    assert_eq!(packet.action, data[7]);
    assert_eq!(packet.challenge.to_le_bytes(), data[8..12]);
    assert_eq!(packet.hmac[..], data[12..44]);
    assert_eq!(packet.payload, &data[46..46 + len(data)]);

    let (key, source) = (&HmacKey::new([9; 32]).expect("not zero"), [192, 0, 2, 7].into());
    let verify =
        |signed: &Signed<'_>, hmac: &[u8; 32], source| mac::verify(key, signed, hmac, SERVER, source);
    assert_eq!(verify(&packet.signed, packet.hmac, source), None, "nobody signed it");
    let Some(action) = ActionId::new(packet.action) else {
        return;
    };
    let knock = Knock {
        timestamp: packet.timestamp,
        user: packet.user,
        action,
        challenge: packet.challenge,
        payload: packet.payload,
    };
    let bindings = [
        (Binding::None, Bound::None),
        (Binding::Server(SERVER), Bound::Server),
        (Binding::Source(SERVER, source), Bound::Source),
    ];
    for (binding, bound) in bindings {
        let mut plain = knock.encode(key, binding).expect("a payload that fits");
        let end = 46 + len(&*plain);
        // Not authenticated, to be ignored.
        plain[end..].copy_from_slice(&data[end..]);
        let own = Packet::decode(&*plain).expect("what was encoded");
        assert_eq!((own.signed.head, own.signed.tail), (packet.signed.head, packet.signed.tail));
        assert_eq!(verify(&own.signed, own.hmac, source), Some(bound));
        let elsewhere = (bound != Bound::Source).then_some(bound);
        assert_eq!(verify(&own.signed, own.hmac, [192, 0, 2, 8].into()), elsewhere);
    }
}

/// Opens as a receipt, which nobody has made, and reads as what is inside one. What is one is what its own plaintext is,
/// byte for byte, and opens again for its knock.
pub fn receipt(data: &[u8]) {
    let (key, hmac) = (&HmacKey::new([9; 32]).expect("not zero"), &[8; 32]);
    assert!(Receipt::open(data, key, hmac).is_err(), "nobody sealed it");
    let Ok(receipt) = Receipt::parse(data) else { return };
    if let Ok(piece) = Piece::decode(&receipt.text) {
        assert_eq!(piece.encode(), receipt.text);
    }
    if receipt.text.len() <= TEXT_MAX {
        assert_eq!(receipt.plaintext(), data);
        let sealed = receipt.seal(key, hmac, [7; 12]);
        assert!(sealed.len() <= RECEIPT_MAX);
        assert_eq!(Receipt::open(&sealed, key, hmac), Ok(receipt));
    }
}

/// Decodes as a message of listener or keeper. What decodes is what its own encoding is, byte for byte.
pub fn channel(data: &[u8]) {
    if let Ok(message) = ToKeeper::decode(data) {
        assert_eq!(message.encode()[..], *data);
    }
    if let Ok(message) = ToListener::decode(data) {
        assert_eq!(message.encode()[..], *data);
    }
}

/// Reads as an invite. What is one survives being written and read, and no error shows the key or a control character.
pub fn invite(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let invite = match Invite::parse(text) {
        Ok(invite) => invite,
        Err(error) => {
            let told = error.to_string();
            assert!(!told.chars().any(char::is_control), "{told:?}");
            assert!(!told.contains(&*recorded().hmac_key.to_hex()));
            return;
        }
    };
    let written = [invite.to_toml(), invite.to_line()].map(|written| written.expect("a key that was read"));
    for written in written {
        let again = Invite::parse(&written).expect("what was written");
        assert_eq!(
            (
                &again.name,
                (&again.host, &again.addresses),
                again.port,
                again.server_id,
                (again.postage, again.answers)
            ),
            (
                &invite.name,
                (&invite.host, &invite.addresses),
                invite.port,
                invite.server_id,
                (invite.postage, invite.answers)
            ),
        );
        assert_eq!(
            (&again.user, again.user_id, &again.hmac_key, &again.server_key, &again.actions),
            (&invite.user, invite.user_id, &invite.hmac_key, &invite.server_key, &invite.actions),
        );
    }
    let mask = format!("{invite:?}");
    assert!(!mask.contains(&*invite.hmac_key.to_hex()), "{mask}");
    // A stranger chose the key: sealing with it may fail, no more.
    let sealed = invite.server_key.seal(&mut OsRng, &[1; PLAINTEXT_LEN]);
    assert!(sealed.is_err() || sealed.is_ok_and(|sealed| sealed.len() == invite.server_key.modulus().len()));
}

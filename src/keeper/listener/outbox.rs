//! Messages to the listener that wait for room in the channel: sent in order, none lost while it lives.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use zeroize::Zeroizing;

use crate::channel::{Channel, Sent, Takes, ToListener};

/// Bounded by what a configuration holds: a set-up and the changes of a few reloads, then the listener moves or is
/// replaced.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Message>,
}

struct Message {
    bytes: Zeroizing<Vec<u8>>,
    /// The place of the socket that goes along.
    socket: Option<usize>,
}

impl Outbox {
    pub(super) fn push(&mut self, message: &ToListener) {
        self.waiting.push_back(Message { bytes: message.encode(), socket: None });
    }

    /// With the socket in this place.
    pub(super) fn push_socket(&mut self, message: &ToListener, place: usize) {
        self.waiting.push_back(Message { bytes: message.encode(), socket: Some(place) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends as much as there is room for. Never blocks.
    pub(super) fn flush(&mut self, channel: &Channel, sockets: &[(UdpSocket, Takes)]) {
        while let Some(Message { bytes, socket }) = self.waiting.front() {
            let socket = socket.and_then(|place| sockets.get(place)).map(|(socket, _)| socket.as_fd());
            match channel.send(bytes, socket) {
                Sent::Yes => drop(self.waiting.pop_front()),
                Sent::Full => return,
                // What it says last is still to be read: that, and its end, is heard there.
                Sent::Closed => self.waiting.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{MESSAGE_MAX, Received, StampKeys};
    use crate::wire::UserId;

    #[test]
    fn what_a_full_channel_does_not_take_waits_and_comes_in_order() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut outbox = Outbox::default();
        for number in 0..5000 {
            let removed = vec![UserId(number); 200];
            outbox.push(&ToListener::StampKeys(StampKeys { removed, added: Vec::new() }));
        }
        outbox.flush(&ours, &[]);
        assert!(!outbox.is_empty(), "two megabytes fit nowhere");
        let mut buffer = [0; MESSAGE_MAX];
        let mut next = 0;
        while next < 5000 {
            while let Received::Message(len, None) = theirs.receive(&mut buffer) {
                let Ok(ToListener::StampKeys(keys)) = ToListener::decode(&buffer[..len]) else {
                    panic!("another message")
                };
                assert_eq!(keys.removed[0], UserId(next));
                next += 1;
            }
            outbox.flush(&ours, &[]);
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_listener_that_is_gone_is_told_nothing_more() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.push(&ToListener::Stop);
        drop(theirs);
        outbox.flush(&ours, &[]);
        assert!(outbox.is_empty());
    }
}

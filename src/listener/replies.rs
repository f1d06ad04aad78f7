//! Answers that a copy of their knock gets again. Pure.
//!
//! # Security considerations
//!
//! Whoever captured a knock can send it again from where it came. He gets what its sender got, to the same address and
//! port, no more bytes than he sent, five times at most, and only while the knock is fresh. Memory is bounded: who has
//! many answers remembered washes out others', and nothing but a copy's answer is lost with them.

use std::net::SocketAddr;

use lru::LruCache;

use crate::channel::Reply;
use crate::clock::Now;

/// The latest answer to each knock, 2 MB of them at most.
#[derive(Debug)]
pub(super) struct Replies(LruCache<[u8; 32], Kept>);

#[derive(Debug)]
struct Kept {
    reply: Reply,
    left: u8,
}

impl Replies {
    /// None.
    pub(super) fn new() -> Replies {
        Replies(LruCache::unbounded())
    }

    /// Whether no copy gets anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It was sent; a later one takes its place, and what is left of its copies.
    pub(super) fn keep(&mut self, now: Now, reply: Reply) {
        if now.unix() > u64::from(reply.until) {
            return;
        }
        let left = self.0.peek(&reply.digest).map_or(COPIES, |kept| kept.left);
        self.0.put(reply.digest, Kept { reply, left });
        while self.0.len() > ROOM {
            self.0.pop_lru();
        }
    }

    /// What a copy of the knock with this digest gets.
    pub(super) fn again(&mut self, now: Now, digest: &[u8; 32], source: SocketAddr) -> Option<Reply> {
        let kept = self.0.peek_mut(digest).filter(|kept| kept.reply.to == source)?;
        if now.unix() > u64::from(kept.reply.until) {
            self.0.pop(digest);
            return None;
        }
        kept.left = kept.left.checked_sub(1)?;
        Some(kept.reply.clone())
    }
}

/// How many copies of a knock are answered.
const COPIES: u8 = 5;

/// Answers that are remembered, under 500 bytes each.
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::SocketId;

    const HERE: ([u8; 4], u16) = ([192, 0, 2, 7], 9);

    fn at(unix: u64) -> Now {
        Now { mono: Duration::ZERO, boot: Duration::ZERO, wall: Duration::from_secs(unix) }
    }

    fn reply(number: u32, text: &[u8]) -> Reply {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        let from = [192, 0, 2, 1].into();
        Reply { digest, socket: SocketId(0), to: HERE.into(), from, until: 100, bytes: text.to_vec() }
    }

    #[test]
    fn five_copies_get_the_latest_answer_and_the_sixth_none() {
        let mut replies = Replies::new();
        replies.keep(at(50), reply(1, b"running"));
        let digest = reply(1, b"").digest;
        let mut heard: Vec<Vec<u8>> = Vec::new();
        for copy in 0..8 {
            if copy == 2 {
                replies.keep(at(50), reply(1, b"done"));
            }
            heard.extend(replies.again(at(60), &digest, HERE.into()).map(|reply| reply.bytes));
        }
        assert_eq!(
            heard,
            [b"running".to_vec(), b"running".to_vec(), b"done".into(), b"done".into(), b"done".into()]
        );
    }

    #[test]
    fn another_port_another_knock_and_a_stale_one_get_none() {
        let mut replies = Replies::new();
        replies.keep(at(50), reply(1, b"done"));
        let digest = reply(1, b"").digest;
        assert_eq!(replies.again(at(60), &digest, (HERE.0, 10).into()), None);
        assert_eq!(replies.again(at(60), &digest, ([192, 0, 2, 8], 9).into()), None);
        assert_eq!(replies.again(at(60), &reply(2, b"").digest, HERE.into()), None);
        assert!(replies.again(at(100), &digest, HERE.into()).is_some());
        assert_eq!(replies.again(at(101), &digest, HERE.into()), None);
        assert!(replies.is_empty());
        replies.keep(at(50), Reply { until: 0, ..reply(3, b"once") });
        assert!(replies.is_empty(), "a reply that is sent once is not kept");
    }

    #[test]
    fn memory_is_bounded() {
        let mut replies = Replies::new();
        (0..10_000).for_each(|number| replies.keep(at(50), reply(number, b"done")));
        assert_eq!(replies.0.len(), ROOM);
    }
}

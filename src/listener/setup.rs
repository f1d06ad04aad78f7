//! What a listener hears before it locks itself in.

use std::os::fd::OwnedFd;

use mio::{Events, Poll};
use zeroize::Zeroizing;

use super::ListenerError;
use super::run::wait;
use crate::channel::{Channel, Limits, MESSAGE_MAX, Received, Setup, SocketId, StampKeys, Takes, ToListener};

/// All of it.
pub(super) struct Begun {
    pub(super) setup: Setup,
    pub(super) limits: Limits,
    /// In the order of their numbers, from 0.
    pub(super) sockets: Vec<(Takes, OwnedFd)>,
    /// To be applied in order.
    pub(super) keys: Vec<StampKeys>,
}

/// Waits for `Begin` and what comes before it. The channel is registered with `poll`.
pub(super) fn hear(channel: &Channel, poll: &mut Poll) -> Result<Begun, ListenerError> {
    let mut buffer = Zeroizing::new([0; MESSAGE_MAX]);
    let mut events = Events::with_capacity(1);
    let (mut setup, mut limits) = (None, None);
    let (mut sockets, mut keys) = (Vec::new(), Vec::new());
    loop {
        let (message, descriptor) = match channel.receive(&mut buffer) {
            Received::Message(len, descriptor) => {
                (buffer.get(..len).and_then(|bytes| ToListener::decode(bytes).ok()), descriptor)
            }
            Received::Empty => {
                wait(poll, &mut events, None)?;
                continue;
            }
            Received::End => return Err(ListenerError::Setup),
        };
        match (message, descriptor) {
            (Some(ToListener::Setup(new)), None) if setup.is_none() => setup = Some(new),
            (Some(ToListener::Limits(new)), None) => limits = Some(new),
            (Some(ToListener::Socket(SocketId(number), takes)), Some(socket))
                if usize::from(number) == sockets.len() =>
            {
                sockets.push((takes, socket));
            }
            (Some(ToListener::StampKeys(change)), None) => keys.push(change),
            (Some(ToListener::Begin), None) => {
                let (Some(setup), Some(limits)) = (setup, limits) else {
                    return Err(ListenerError::Setup);
                };
                return Ok(Begun { setup, limits, sockets, keys });
            }
            (_, _) => return Err(ListenerError::Setup),
        }
    }
}

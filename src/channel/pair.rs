//! A non-blocking SOCK_SEQPACKET pair.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

use super::MESSAGE_MAX;

/// One end. Closing it ends the other.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// What became of a message.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On its way.
    Yes,
    /// The other end doesn't keep up.
    Full,
    /// There is no other end any more.
    Closed,
}

/// What a receive brought.
#[must_use]
#[derive(Debug)]
pub enum Received {
    /// So many bytes, and the descriptor that came along.
    Message(usize, Option<OwnedFd>),
    /// Nothing now.
    Empty,
    /// The other end is gone, or sent what no end of ours sends: a message above [`MESSAGE_MAX`], two descriptors.
    End,
}

impl Channel {
    /// A connected pair, closed on exec.
    ///
    /// # Errors
    ///
    /// The operating system's, when it has no descriptors left.
    pub fn pair() -> std::io::Result<(Channel, Channel)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for fd in [&one, &other] {
            sockopt::set_socket_send_buffer_size(fd, SEND_BUFFER)?;
        }
        Ok((Channel { fd: one }, Channel { fd: other }))
    }

    /// The end with which the keeper started this process as standard input; that becomes what standard output is.
    ///
    /// # Errors
    ///
    /// When standard input is something else.
    pub fn inherited() -> std::io::Result<Channel> {
        let fd = rustix::stdio::stdin().try_clone_to_owned()?;
        if sockopt::socket_type(&fd)? != SocketType::SEQPACKET {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
        Ok(Channel { fd })
    }

    /// Sends one message, with a descriptor if there is one. Never blocks.
    pub fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Sent {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: &[BorrowedFd<'_>] = descriptor.as_slice();
        if !descriptors.is_empty() {
            // The buffer has room for just this one.
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            match sendmsg(&self.fd, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Sent::Yes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Sent::Full,
                Err(_) => return Sent::Closed,
            }
        }
    }

    /// Sends one message, waiting up to `patience` for room. For threads that are no loop.
    pub fn send_patiently(&self, message: &[u8], patience: Duration) -> Sent {
        match self.send(message, None) {
            Sent::Full => {
                let timeout = Timespec::try_from(patience).ok();
                let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                match poll(&mut fds, timeout.as_ref()) {
                    Ok(_) | Err(_) => self.send(message, None),
                }
            }
            sent @ (Sent::Yes | Sent::Closed) => sent,
        }
    }

    /// Receives one message into `buffer`. Never blocks.
    pub fn receive(&self, buffer: &mut [u8; MESSAGE_MAX]) -> Received {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut slices = [IoSliceMut::new(buffer)];
            match recvmsg(&self.fd, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Received::Empty,
                Err(_) => return Received::End,
            }
        };
        if message.bytes == 0 || message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Received::End;
        }
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            // Non-exhaustive; credentials are never asked for.
            RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        });
        Received::Message(message.bytes, descriptor)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.fd
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Bytes of messages under way; the default holds 270 opened datagrams.
const SEND_BUFFER: usize = 1 << 20;

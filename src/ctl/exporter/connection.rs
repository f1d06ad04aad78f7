//! One client, from its first byte to its last: a head, a page, the end.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;

use super::http::Head;
use super::pages::Page;
use super::poller::Poller;
use crate::clock::Now;

/// A client.
pub(super) struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// When (monotonic) this stage must be over.
    until: Duration,
}

/// Whether there is anything left to do for it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Something,
    Nothing,
}

enum Stage {
    /// What came of the head.
    Head(Vec<u8>),
    /// The daemon is asked.
    Asked(Page),
    /// What is still to be sent.
    Answer(Vec<u8>, usize),
    /// The client is to close: who closes first with something unread takes the answer back. So much may still come.
    End(usize),
}

/// Whom it is least of a pity to lose, least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    Served(Duration),
    Silent(Duration),
    Asking(Duration),
}

impl Connection {
    pub(super) fn new(now: Now, stream: TcpStream) -> Connection {
        Connection { stream, stage: Stage::Head(Vec::new()), until: now.mono.saturating_add(HEAD) }
    }

    pub(super) fn until(&self) -> Duration {
        self.until
    }

    pub(super) fn claim(&self) -> Claim {
        match self.stage {
            Stage::End(_) => Claim::Served(self.until),
            Stage::Head(_) => Claim::Silent(self.until),
            Stage::Asked(_) | Stage::Answer(..) => Claim::Asking(self.until),
        }
    }

    /// Goes as far as it can without waiting.
    pub(super) fn advance(&mut self, now: Now, poller: &mut Poller) -> Left {
        match self.try_advance(now, poller) {
            Ok(left) => left,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Left::Something,
            Err(_) => Left::Nothing,
        }
    }

    /// Its time may be up.
    pub(super) fn due(&mut self, now: Now) -> Left {
        if now.mono < self.until {
            return Left::Something;
        }
        let Stage::Asked(page) = &self.stage else {
            return Left::Nothing;
        };
        let late = page.show(&Err("siglatchd takes too long to answer".to_owned()));
        self.enter(now, Stage::Answer(late.bytes(), 0));
        match self.answer(now) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Left::Nothing,
            Ok(()) | Err(_) => Left::Something,
        }
    }

    fn try_advance(&mut self, now: Now, poller: &mut Poller) -> io::Result<Left> {
        loop {
            match &mut self.stage {
                Stage::Head(_) => match self.head(now)? {
                    Left::Something => {}
                    Left::Nothing => return Ok(Left::Nothing),
                },
                Stage::Asked(page) => match poller.look(now) {
                    Some(seen) => {
                        let answer = page.show(seen).bytes();
                        self.enter(now, Stage::Answer(answer, 0));
                    }
                    None => return Ok(Left::Something),
                },
                Stage::Answer(..) => self.answer(now)?,
                Stage::End(room) => {
                    let len = read(&mut self.stream, &mut [0; CHUNK])?;
                    *room = room.saturating_sub(len);
                    if len == 0 || *room == 0 {
                        return Ok(Left::Nothing);
                    }
                }
            }
        }
    }

    fn head(&mut self, now: Now) -> io::Result<Left> {
        let Stage::Head(bytes) = &mut self.stage else {
            return Ok(Left::Something);
        };
        let mut chunk = [0; CHUNK];
        let len = read(&mut self.stream, &mut chunk)?;
        if len == 0 {
            return Ok(Left::Nothing);
        }
        bytes.extend(chunk.get(..len).unwrap_or_default());
        let stage = match Head::read(bytes) {
            Head::Part => return Ok(Left::Something),
            Head::Whole(get) => match Page::of(&get) {
                Ok(page) => Stage::Asked(page),
                Err(none) => Stage::Answer(none.bytes(), 0),
            },
            Head::Bad(why) => Stage::Answer(why.bytes(), 0),
        };
        self.enter(now, stage);
        Ok(Left::Something)
    }

    fn answer(&mut self, now: Now) -> io::Result<()> {
        while let Stage::Answer(bytes, at) = &mut self.stage {
            let rest = bytes.get(*at..).unwrap_or_default();
            if rest.is_empty() {
                self.stream.shutdown(Shutdown::Write)?;
                self.enter(now, Stage::End(DRAIN));
                break;
            }
            match self.stream.write(rest) {
                Ok(len) => *at = at.saturating_add(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn enter(&mut self, now: Now, stage: Stage) {
        let time = match &stage {
            Stage::Head(_) => HEAD,
            Stage::Asked(_) => ASKED,
            Stage::Answer(..) => ANSWER,
            Stage::End(_) => END,
        };
        self.until = now.mono.saturating_add(time);
        self.stage = stage;
    }
}

fn read(stream: &mut TcpStream, chunk: &mut [u8; CHUNK]) -> io::Result<usize> {
    loop {
        match stream.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

const CHUNK: usize = 4096;

/// Bytes that may come after the head.
const DRAIN: usize = 65_536;

/// For all of the head.
const HEAD: Duration = Duration::from_secs(5);

/// For the daemon's answer: less than a scrape takes patience, 10 s.
const ASKED: Duration = Duration::from_secs(8);

/// For all of the answer.
const ANSWER: Duration = Duration::from_secs(5);

/// For the client to close.
const END: Duration = Duration::from_secs(1);

//! One connection to the control socket: a line in, a line out, and so on.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::clock::Now;
use crate::config::resolved;
use crate::control::nonces::Nonces;
use crate::control::sign::{self, Asked};
use crate::control::{self, Bearer, Hello, LINE_MAX, Refused, Reply};
use crate::work::Drained;

/// Its state.
#[derive(Debug)]
pub(super) struct Connection {
    /// No other has it.
    pub(super) id: u64,
    /// When (monotonic) it is given up.
    pub(super) until: Duration,
    stream: Stream,
    hello: Hello,
    phase: Phase,
    input: Zeroizing<Vec<u8>>,
    output: Vec<u8>,
}

/// Either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not shown the token yet.
    Unknown,
    Asks,
    /// Its reply takes time.
    Waits,
    /// Nothing more is read: what is said still is the last.
    Ends,
}

/// It is over.
#[derive(Debug)]
pub(super) struct Over;

impl Connection {
    pub(super) fn new(now: Now, stream: Stream, hello: Hello, id: u64) -> Connection {
        let phase = match stream {
            Stream::Unix(_) => Phase::Asks,
            Stream::Tcp(_) => Phase::Unknown,
        };
        let until = now.mono.saturating_add(IDLE);
        let (input, output) = (Zeroizing::default(), Vec::new());
        let mut connection = Connection { id, until, stream, hello, phase, input, output };
        if phase == Phase::Asks {
            connection.greet();
        }
        connection
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match &mut self.stream {
            Stream::Unix(stream) => registry.register(stream, token, interest),
            Stream::Tcp(stream) => registry.register(stream, token, interest),
        }
    }

    /// Whether it has not shown the token.
    pub(super) fn is_unknown(&self) -> bool {
        self.phase == Phase::Unknown
    }

    /// Whether nobody waits for its reply.
    pub(super) fn is_idle(&self) -> bool {
        self.phase != Phase::Waits
    }

    /// Reads, has requests served and writes, as far as all of that goes without waiting, and within a budget: who asks without end holds
    /// up nobody else. [`Drained::More`]: to be called again.
    pub(super) fn turn(
        &mut self,
        now: Now,
        config: &resolved::Control,
        nonces: &mut Nonces,
        mut serve: impl FnMut(Asked) -> Option<Reply>,
    ) -> Result<Drained, Over> {
        for _ in 0..BUDGET {
            self.flush()?;
            match self.phase {
                Phase::Ends if self.output.is_empty() => return Err(Over),
                Phase::Ends | Phase::Waits => return Ok(Drained::All),
                // Who does not read his reply asks no more.
                Phase::Unknown | Phase::Asks if !self.output.is_empty() => return Ok(Drained::All),
                Phase::Unknown | Phase::Asks => {}
            }
            let line = match self.line()? {
                Some(line) => line,
                None if self.phase == Phase::Ends => continue,
                None => return Ok(Drained::All),
            };
            if self.phase == Phase::Unknown {
                self.enter(&line, config)?;
                continue;
            }
            match sign::verify(&line, &self.hello, config, nonces, now) {
                Ok(asked) => {
                    self.phase = Phase::Waits;
                    self.until = now.mono.saturating_add(PATIENCE);
                    if let Some(reply) = serve(asked) {
                        self.answer(now, &reply);
                    }
                }
                Err(refused) => {
                    self.say(&Reply::Refused(refused));
                    self.phase = Phase::Ends;
                }
            }
        }
        Ok(Drained::More)
    }

    /// What is said to the request that is served.
    pub(super) fn answer(&mut self, now: Now, reply: &Reply) {
        self.say(reply);
        self.phase = Phase::Asks;
        self.until = now.mono.saturating_add(IDLE);
    }

    fn greet(&mut self) {
        let hello = control::write(&self.hello);
        self.output.extend(hello.unwrap_or_default());
    }

    fn enter(&mut self, line: &[u8], config: &resolved::Control) -> Result<(), Over> {
        let said: Bearer = control::read(line).map_err(|_| Over)?;
        let said = Zeroizing::new(said.token);
        let token = config.tcp.as_ref().map(|tcp| tcp.token.as_slice()).ok_or(Over)?;
        if !bool::from(said.as_bytes().ct_eq(token)) {
            return Err(Over);
        }
        self.phase = Phase::Asks;
        self.greet();
        Ok(())
    }

    fn say(&mut self, reply: &Reply) {
        let failed = |_| control::write(&Reply::Failed("the reply has no form in JSON".to_owned()));
        self.output.extend(control::write(reply).or_else(failed).unwrap_or_default());
    }

    /// The next line, if all of it is there.
    fn line(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Over> {
        let mut buffer = Zeroizing::new([0; 4096]);
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let rest = self.input.split_off(end.saturating_add(1));
                return Ok(Some(std::mem::replace(&mut self.input, Zeroizing::new(rest))));
            }
            if self.input.len() >= LINE_MAX {
                let what = format!("a line has at most {LINE_MAX} bytes");
                self.say(&Reply::Refused(Refused::Malformed(what)));
                self.phase = Phase::Ends;
                return Ok(None);
            }
            match self.stream.read(&mut *buffer) {
                Ok(0) => return Err(Over),
                Ok(len) => self.input.extend(buffer.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Over> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(Over),
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests of one connection per wake.
const BUDGET: usize = 8;
/// So long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// And so long may a request take.
const PATIENCE: Duration = Duration::from_secs(120);

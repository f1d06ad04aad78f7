//! Bytes to operations. Each operation is a byte, taken modulo 14 below 240, and its operands; what ends early ends the
//! program.
//!
//! | byte | operation | operands |
//! |---:|---|---|
//! | 0 | a signed knock | those of [`Knock::read`] |
//! | 1 | bytes | source, length (2, big-endian), how many of them follow; the rest repeats them |
//! | 2 | a datagram again | which, source |
//! | 3 | a datagram again, changed | which, source, where, bits |
//! | 4 | time passes | eighths of a second |
//! | 5 | the wall clock is set | seconds from now (2, big-endian, signed) |
//! | 6 | reload | which configuration |
//! | 7 | restart | in order, killed, with its store lost; of the listener alone |
//! | 8 | the store's health | good, failing |
//! | 9 | which stages go on by themselves | a bit each: open, judge, store, answer; 0: none |
//! | 10 | a script exits | which |
//! | 11 | deadlines, the summary | |
//! | 12 | the store is pruned | |
//! | 13 | the end is near | stop, the keeper hangs up |
//! | 240, .. | a stamped knock | those of [`Stamp::read`], then of [`Knock::read`] |
//! | 245, .. | private-key operations | enough, too few |
//! | 250, .. | somebody knocked well | source |

use std::net::SocketAddr;
use std::time::Duration;

use crate::fuzzing::knock::{Knock, Stamp};
use crate::fuzzing::operands::Operands;
use crate::fuzzing::store::Health;
use crate::listener::Supply;

pub(super) enum Operation<'a> {
    Knock(Knock<'a>),
    Stamped(Stamp, Knock<'a>),
    Supply(Supply),
    Settled(SocketAddr),
    Raw(SocketAddr, Vec<u8>),
    Again { nth: u8, source: SocketAddr, flip: Option<(u8, u8)> },
    Wait(Duration),
    StepClock(i64),
    Reload(u8),
    Restart(Start),
    Store(Health),
    Stages(Stages),
    Exit(u8),
    Due,
    Forget,
    Stop,
    HangUp,
}

/// How a daemon starts anew.
pub(super) enum Start {
    InOrder,
    Killed,
    StoreLost,
    /// Only its listener.
    Listener,
}

#[derive(Clone, Copy)]
pub(super) struct Stages {
    pub(super) open: bool,
    pub(super) judge: bool,
    pub(super) store: bool,
    pub(super) answer: bool,
}

impl Stages {
    pub(super) const ALL: Stages = Stages { open: true, judge: true, store: true, answer: true };
    pub(super) const NONE: Stages = Stages { open: false, judge: false, store: false, answer: false };
}

pub(super) struct Program<'a> {
    left: Operands<'a>,
    steps: usize,
}

impl<'a> Program<'a> {
    pub(super) fn new(data: &'a [u8]) -> Program<'a> {
        Program { left: Operands::new(data), steps: STEPS_MAX }
    }

    fn operation(&mut self) -> Option<Operation<'a>> {
        let left = &mut self.left;
        let byte = left.u8()?;
        match byte {
            0..240 => {}
            240..245 => return Some(Operation::Stamped(Stamp::read(left)?, Knock::read(left)?)),
            245..250 => {
                return Some(Operation::Supply(match left.u8()? % 2 {
                    0 => Supply::Ample,
                    _ => Supply::Short,
                }));
            }
            250.. => return left.source().map(Operation::Settled),
        }
        Some(match byte % 14 {
            0 => Operation::Knock(Knock::read(left)?),
            1 => Operation::Raw(left.source()?, left.pattern(600)?),
            2 => Operation::Again { nth: left.u8()?, source: left.source()?, flip: None },
            3 => Operation::Again {
                nth: left.u8()?,
                source: left.source()?,
                flip: Some((left.u8()?, left.u8()?)),
            },
            4 => Operation::Wait(Duration::from_millis(125) * left.u8()?.into()),
            5 => Operation::StepClock(left.u16()?.cast_signed().into()),
            6 => Operation::Reload(left.u8()?),
            7 => Operation::Restart(match left.u8()? % 4 {
                0 => Start::InOrder,
                1 => Start::Killed,
                2 => Start::StoreLost,
                _ => Start::Listener,
            }),
            8 => Operation::Store(match left.u8()? % 2 {
                0 => Health::Good,
                _ => Health::Failing,
            }),
            9 => {
                let bits = left.u8()?;
                Operation::Stages(Stages {
                    open: bits & 1 != 0,
                    judge: bits & 2 != 0,
                    store: bits & 4 != 0,
                    answer: bits & 8 != 0,
                })
            }
            10 => Operation::Exit(left.u8()?),
            11 => Operation::Due,
            12 => Operation::Forget,
            _ => match left.u8()? % 2 {
                0 => Operation::Stop,
                _ => Operation::HangUp,
            },
        })
    }
}

impl<'a> Iterator for Program<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        self.steps = self.steps.checked_sub(1)?;
        self.operation()
    }
}

/// Longer programs find nothing that shorter ones don't, and slowly.
const STEPS_MAX: usize = 100;

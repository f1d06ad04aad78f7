//! The code of an authenticator: from the command line, or typed at the terminal, which does not show it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use zeroize::Zeroizing;

use super::args;
use super::target::Target;
use crate::exit::{Exit, Failure};
use crate::wire::invite::{Asks, Opens};
use crate::wire::options::TotpCode;

/// The code to send, if the action asks for one or the command line has one.
pub(super) fn code(args: &args::Knock, target: &Target) -> Result<Option<TotpCode>, Failure> {
    match (&args.totp, target.asks) {
        (None, Asks::Nothing) => Ok(None),
        // Those for the two families of a door count as one.
        (Some(_), _) | (None, Asks::Totp) if args.all_families && target.opens != Some(Opens::Door) => {
            let what = "a code is good for one knock, and two families are two";
            Err(Failure::new(Exit::Usage, what).hint("knock with -4, then with -6 and the next code"))
        }
        (Some(code), _) => Ok(Some(code.clone())),
        (None, Asks::Totp) => ask(&target.label).map(Some),
    }
}

/// "123456", or "123 456" as authenticators show it.
pub(super) fn parse(text: &str) -> Result<TotpCode, &'static str> {
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(text.bytes().filter(|byte| *byte != b' ').collect());
    let digits = digits.as_slice().try_into().ok();
    digits.and_then(TotpCode::new).ok_or("a code has six digits")
}

fn ask(label: &str) -> Result<TotpCode, Failure> {
    let failed = |error: io::Error| {
        let what =
            format!("the action asks for a code of your authenticator, and there is no terminal: {error}");
        Failure::new(Exit::Usage, what).hint("nothing was sent; give it with --totp CODE")
    };
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let terminal = Unseen::new(terminal).map_err(failed)?;
    let typed = terminal.ask(&format!("code for {label}: ")).map_err(failed)?;
    let typed = typed.ok_or_else(|| Failure::new(Exit::Usage, "no code was given: nothing was sent"))?;
    parse(&typed).map_err(|bad| Failure::new(Exit::Usage, bad).hint("nothing was sent"))
}

/// A terminal that hands over each key and shows none, until this is dropped.
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn new(terminal: File) -> io::Result<Unseen> {
        let before = termios::tcgetattr(&terminal)?;
        let mut unseen = before.clone();
        // Without ISIG too: who is ended by a key could not put the terminal back.
        unseen.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &unseen)?;
        Ok(Unseen { terminal, before })
    }

    /// What was typed before Enter; `None` for Ctrl-C, Ctrl-D or the terminal's end.
    fn ask(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        (&self.terminal).write_all(prompt.as_bytes())?;
        let mut typed = Zeroizing::new(String::with_capacity(TYPED_MAX));
        let mut key = [0];
        let done = loop {
            match ((&self.terminal).read(&mut key)?, key) {
                (0, _) | (_, [0x03 | 0x04]) => break None,
                (_, [b'\r' | b'\n']) => break Some(typed),
                (_, [0x08 | 0x7f]) => {
                    typed.pop();
                }
                (_, [other]) if typed.len() < TYPED_MAX => typed.push(char::from(other & 0x7f)),
                _ => {}
            }
        };
        (&self.terminal).write_all(b"\n")?;
        Ok(done)
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        termios::tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before).unwrap_or_default();
    }
}

const TYPED_MAX: usize = 64;

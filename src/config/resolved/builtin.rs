//! What the daemon does itself, in the place of a program.

use super::Remote;

/// Something that the daemon does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Says who knocked, and what he may knock for; harms nobody.
    Whoami,
    /// Something of an administrator's, from afar.
    Remote(Remote),
    /// Exchanges the key of who knocks.
    Enrol,
    /// Tells the server's public key, a piece at a time.
    ServerKey,
}

impl Builtin {
    /// Whether every user may knock for it, whatever he is granted, at any time, and as often as he likes: it is about his keys.
    pub fn is_everybodys(self) -> bool {
        match self {
            Builtin::Enrol | Builtin::ServerKey => true,
            Builtin::Remote(_) | Builtin::Whoami => false,
        }
    }
}

//! Why a datagram was refused.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Why a datagram was refused, in the order in which a datagram meets the checks. Each datagram that is
        /// received either ran or is counted under exactly one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All of them, in pipeline order.
            pub const ALL: &[DropReason] = &[$(DropReason::$name),+];

            /// The stable code in logs, counters and documents.
            pub fn code(self) -> &'static str {
                match self { $(DropReason::$name => $code,)+ }
            }

            /// The code's meaning, a sentence for people.
            pub fn meaning(self) -> &'static str {
                match self { $(DropReason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// Not exactly as long as the modulus; dropped unread.
    Length = "length",
    /// Not below the modulus: no key seals to it.
    Range = "range",
    /// All workers busy and their queue full.
    Queue = "queue",
    /// The keeper took no more messages.
    Channel = "channel",
    /// Anything between ciphertext and verified HMAC.
    NotAuthentic = "not-authentic",
    /// Action 0, reserved for replies.
    ReservedAction = "reserved-action",
    /// Timestamp further back than `freshness`.
    Stale = "stale",
    /// Timestamp further ahead than `freshness`.
    Ahead = "ahead",
    /// The nonce was claimed before, from this address.
    Replay = "replay",
    /// The nonce was claimed before, from another address: somebody copies knocks.
    Contested = "contested",
    /// More knocks of this user than `user_rate` and `user_burst`.
    Rate = "rate",
    /// The store's queue is full.
    StoreBusy = "store-busy",
    /// The store could not record the claim.
    StoreFailed = "store-failed",
    /// The store holds `max_claims` unexpired claims.
    StoreFull = "store-full",
    /// At or below the floor: whether it ran is forgotten.
    Floor = "floor",
    /// The user was removed, or his key exchanged, since it was verified.
    UserGone = "user-gone",
    /// The user has `enabled = false`.
    UserDisabled = "user-disabled",
    /// Past the user's `not_after`.
    UserExpired = "user-expired",
    /// No action has this id.
    ActionUnknown = "action-unknown",
    /// The action is not in the user's `actions`.
    NotPermitted = "not-permitted",
    /// The action has `enabled = false`.
    ActionDisabled = "action-disabled",
    /// Bound to less than `bind` asks for.
    Binding = "binding",
    /// The source is not in `allow_from` of server, user or action.
    Source = "source",
    /// The payload is not of the kind or length that the action takes.
    Payload = "payload",
    /// `max_running` of the action, or `max_jobs` of all, run already.
    Busy = "busy",
    /// The script could not be started.
    StartFailed = "start-failed",
    /// The daemon is stopping.
    Stopping = "stopping",
}

impl DropReason {
    /// Whether it is known whose knock was refused.
    pub fn is_authentic(self) -> bool {
        self > DropReason::NotAuthentic && self != DropReason::Stopping
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

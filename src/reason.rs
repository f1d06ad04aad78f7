//! Why a datagram was refused.

macro_rules! reasons {
    ($($name:ident = $code:literal: $meaning:literal,)+) => {
        /// Why a datagram was refused, in the order in which a datagram meets the checks. Each datagram that is
        /// received either ran or is counted under exactly one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = concat!("`", $code, "`: ", $meaning, ".")] $name,)+
        }

        impl DropReason {
            /// All of them, in pipeline order.
            pub const ALL: &[DropReason] = &[$(DropReason::$name),+];

            /// The stable code in logs, counters and documents.
            pub fn code(self) -> &'static str {
                match self { $(DropReason::$name => $code,)+ }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(DropReason::$name => $meaning,)+ }
            }
        }
    };
}

reasons! {
    Length = "length": "not exactly as long as the modulus, or that and a stamp; dropped unread",
    Range = "range": "not below the modulus: no key seals to it",
    Unstamped = "unstamped": "a plain knock, and `require_stamp` is set",
    Seen = "seen": "the same datagram came lately, and is or was opened",
    Copied = "copied": "a stamped datagram came before, from another address: somebody copies knocks",
    Beacon = "beacon": "the stamp's beacon is of no epoch within `freshness`",
    Stamp = "stamp": "the stamp is no user's, or does not fit the datagram",
    StampRate = "stamp-rate": "more stamped knocks of this user than `user_rate` and `user_burst`",
    Prefix = "prefix": "under load, more plain knocks of this /32 or /64 than `prefix_rate` and `prefix_burst`",
    Queue = "queue": "more knocks than can be opened; under load plain ones are taken by chance",
    Channel = "channel": "the keeper took no more messages",
    NotAuthentic = "not-authentic": "anything between ciphertext and verified HMAC",
    ReservedAction = "reserved-action": "action 0, reserved for replies",
    Stale = "stale": "timestamp further back than `freshness`",
    Ahead = "ahead": "timestamp further ahead than `freshness`",
    Replay = "replay": "the nonce came before, from this address",
    Contested = "contested": "the nonce came before, from another address: somebody copies knocks",
    Rate = "rate": "more knocks of this user than `user_rate` and `user_burst`",
    StoreBusy = "store-busy": "the store's queue is full",
    StoreFailed = "store-failed": "the store could not record the claim or the lease",
    StoreFull = "store-full": "the store holds `max_claims` unexpired claims",
    Floor = "floor": "at or below the floor: whether it ran is forgotten",
    UserGone = "user-gone": "the user was removed, or his key exchanged, since it was verified",
    UserDisabled = "user-disabled": "the user has `enabled = false`",
    UserExpired = "user-expired": "past the user's `not_after`",
    ActionUnknown = "action-unknown": "no action has this id",
    NotPermitted = "not-permitted": "the action is not in the user's `actions`",
    ActionDisabled = "action-disabled": "the action has `enabled = false`",
    KeyExchange = "key-exchange": "an invite's key, for anything but its exchange; or that, and it is not to be, or no longer",
    Binding = "binding": "bound to less than `bind` asks for",
    Source = "source": "the source is not in `allow_from` of server, user or action, or is in `deny_from`",
    StampMissing = "stamp-missing": "a plain knock, or stamped by another, and the user has `require_stamp`",
    Options = "options": "options in front of the payload that are malformed, or that the action does not take",
    Address = "address": "the knock names an address to open for that is not in `allow_source`",
    Payload = "payload": "the payload is not of the kind or length that the action takes",
    Hours = "hours": "not within `hours` of user and action",
    TotpMissing = "totp-missing": "the action asks for a TOTP code, and there is none, or the user has no `totp_key`",
    TotpLocked = "totp-locked": "five wrong TOTP codes of this user in 15 minutes",
    Totp = "totp": "the TOTP code is not one of now",
    TotpUsed = "totp-used": "the TOTP code, or a later one, was used before",
    UserSpent = "user-spent": "`max_knocks` of the user have run",
    Quota = "quota": "`quota` of user or action is used up",
    Cooldown = "cooldown": "sooner than `cooldown` of user or action after the last one",
    KeyTaken = "key-taken": "the key was exchanged already, with somebody else: one of the two is not the user",
    Held = "held": "the user holds a lease on this door, and `again = \"refuse\"`",
    DoorsFull = "doors-full": "`max_doors` are held or not closed yet",
    Busy = "busy": "`max_running` of the action, or `max_jobs` of all, run already; or the door could not be closed",
    StartFailed = "start-failed": "the script could not be started",
    Stopping = "stopping": "the daemon is stopping",
}

impl DropReason {
    /// Whether it is known whose knock was refused.
    pub fn is_authentic(self) -> bool {
        self > DropReason::NotAuthentic
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

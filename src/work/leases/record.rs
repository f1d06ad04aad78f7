//! What is known of a door after a crash: one turn of it, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::config::resolved::{NftSet, OnShutdown};
use crate::store::doors::DoorKey;
use crate::wire::KnockId;
use crate::work::job::Exec;

/// One user's hold on a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The id of the knock that began it.
    pub id: KnockId,
    /// Where its last knock came from; a door may be open for another address.
    pub from: IpAddr,
    /// When it ends: since boot, by CLOCK_BOOTTIME.
    pub until: Duration,
    /// The same by the wall clock, for another boot: since the Unix epoch.
    pub wall: Duration,
    /// For how long it was granted last.
    pub hold: Duration,
}

/// A door from `run` to `undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The lease that opened the door.
    pub lease: KnockId,
    /// Its user.
    pub user: String,
    /// What closes it.
    pub undo: Exec,
    /// What becomes of it when the daemon stops.
    pub on_shutdown: OnShutdown,
    /// Where it is.
    pub phase: Phase,
    /// Who holds it, by the user's name.
    pub leases: BTreeMap<String, Lease>,
    /// How the last of those before them ended.
    pub(super) last: Reason,
    /// What the kernel does of itself, if `run` and `undo` are nft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<Kernel>,
}

/// A door that the kernel closes too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// What the address is in.
    pub(super) set: NftSet,
    /// What it knows.
    #[serde(skip)]
    pub(super) told: Told,
}

/// What the kernel was told of a door's end (since boot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// Nobody knows: the daemon, or the firewall, has just started.
    #[default]
    Unknown,
    /// This is being told, for the so manieth time.
    Asked(Duration, u32),
    /// This.
    Known(Duration),
    /// It failed so many times; tried again then.
    Failed(u32, Duration),
}

/// Where a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// From before `run` starts until it ended well.
    Opening,
    /// Open.
    Open,
    /// To be undone, for this reason, for the so manieth time.
    Closing(Reason, u32, #[serde(skip)] Step),
}

/// Where an attempt to undo is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// It starts when the store has it.
    #[default]
    ToBeKept,
    /// `undo` runs.
    Runs,
    /// It has failed; the next begins at this time (since boot).
    Waits(Duration),
}

/// Why a lease ended, and with the last one its door: SIGLATCH_LEASE_REASON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its time was over.
    Expired,
    /// The administrator ended it.
    Revoked,
    /// Its user ended it.
    Released,
    /// `run` failed.
    Failed,
    /// The daemon stopped.
    Shutdown,
    /// The daemon ended in the middle of `run` or `undo`.
    Recovered,
}

/// An `undo` that is to run, for its environment and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undoing {
    /// What it closes.
    pub door: DoorKey,
    /// The lease that opened the door.
    pub lease: KnockId,
    /// Its user.
    pub user: String,
    /// The how manieth time it runs, from 1.
    pub attempt: u32,
    /// Why.
    pub reason: Reason,
}

/// A door of nftables that is to close at another time, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewing {
    /// Which door.
    pub door: DoorKey,
    /// The lease that opened it.
    pub lease: KnockId,
    /// Its user.
    pub user: String,
    /// For how long it stays open.
    pub left: Duration,
}

/// A turn, and the boot that its deadlines are counted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Empty if unknown.
    boot_id: String,
    /// The turn.
    pub turn: Turn,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the record of a door makes no sense: {0}")]
pub struct BadRecord(serde_json::Error);

impl Record {
    /// Reads what the store kept.
    ///
    /// # Errors
    ///
    /// [`BadRecord`].
    pub fn parse(text: &str) -> Result<Record, BadRecord> {
        serde_json::from_str(text).map_err(BadRecord)
    }

    /// As it is kept.
    pub(super) fn text(turn: &Turn, boot_id: &str) -> String {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            boot_id: &'a str,
            turn: &'a Turn,
        }
        // Names, numbers and paths that were read as text: nothing that JSON has no form for.
        serde_json::to_string(&Borrowed { boot_id, turn }).unwrap_or_default()
    }

    /// The turn, its deadlines counted from this boot. No lease is left longer than it was granted.
    pub fn revive(mut self, now: Now, boot_id: &str) -> Turn {
        let same = !boot_id.is_empty() && self.boot_id == boot_id;
        for lease in self.turn.leases.values_mut() {
            let left =
                if same { lease.until.saturating_sub(now.boot) } else { lease.wall.saturating_sub(now.wall) };
            let left = left.min(lease.hold);
            lease.until = now.boot.saturating_add(left);
            lease.wall = now.wall.saturating_add(left);
        }
        self.turn
    }
}

impl Lease {
    pub(super) fn new(now: Now, id: KnockId, from: IpAddr, hold: Duration) -> Lease {
        Lease { id, from, until: now.boot.saturating_add(hold), wall: now.wall.saturating_add(hold), hold }
    }
}

impl Turn {
    pub(super) fn new(
        lease: KnockId,
        user: &str,
        undo: Exec,
        set: Option<NftSet>,
        on_shutdown: OnShutdown,
    ) -> Turn {
        let kernel = set.map(|set| Kernel { set, told: Told::Unknown });
        Turn {
            kernel,
            lease,
            user: user.to_owned(),
            undo,
            on_shutdown,
            phase: Phase::Opening,
            leases: BTreeMap::new(),
            last: Reason::Expired,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::Released => "released",
            Reason::Failed => "failed",
            Reason::Shutdown => "shutdown",
            Reason::Recovered => "recovered",
        })
    }
}

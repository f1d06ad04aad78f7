//! How much is measured: everything in less than 25 minutes, or a glance in less than 4.

use std::time::Duration;

use crate::floods::{Case, FLOODER, Knocker};
use crate::garbage::Kind;
use crate::load::Sources;

/// What a run does.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Knocks for latency, in each round; fewer than one user may send at once.
    pub(crate) knocks: usize,
    /// Before each of them.
    pub(crate) pause: Duration,
    /// Of throughput and of each floor.
    pub(crate) closed_loop: Duration,
    /// Of each flood.
    pub(crate) flood: Duration,
    /// For stamped knocks.
    pub(crate) stamped: Vec<Case>,
    /// For stamped knocks for doors.
    pub(crate) doors: Vec<Case>,
    /// For plain knocks.
    pub(crate) plain: Vec<Case>,
    /// For fwknopd.
    pub(crate) fwknopd: Vec<Case>,
}

impl Plan {
    /// Everything.
    pub(crate) fn full() -> Plan {
        let mut stamped = Vec::new();
        for rate in [1_000, 5_000, 20_000, 50_000] {
            stamped.extend(BOTH.map(|sources| case(Kind::Mixed, rate, sources)));
        }
        for kind in Kind::EACH {
            stamped.extend(BOTH.map(|sources| case(kind, 100_000, sources)));
            stamped.extend(BOTH.map(|sources| case(kind, 400_000, sources)));
        }
        let ladder = |kind| RATES.into_iter().flat_map(move |rate| BOTH.map(|from| case(kind, rate, from)));
        let plain = ladder(Kind::RightLength).chain(plain_only()).collect();
        let random = [20_000, 100_000].map(|rate| case(Kind::Random, rate, ONE));
        Plan {
            rounds: 5,
            knocks: 40,
            pause: Duration::from_millis(15),
            closed_loop: Duration::from_secs(3),
            flood: Duration::from_secs(10),
            stamped,
            doors: doors().to_vec(),
            plain,
            fwknopd: ladder(Kind::Base64).chain(random).collect(),
        }
    }

    /// A glance.
    pub(crate) fn quick() -> Plan {
        Plan {
            rounds: 2,
            knocks: 20,
            closed_loop: Duration::from_secs(1),
            flood: Duration::from_secs(3),
            stamped: vec![
                case(Kind::Mixed, 20_000, Sources::Each),
                case(Kind::CopiedBeacon, 100_000, Sources::Each),
                case(Kind::StampedLooking, 400_000, ONE),
            ],
            plain: [case(Kind::RightLength, 20_000, ONE), case(Kind::RightLength, 20_000, Sources::Each)]
                .into_iter()
                .chain(plain_only())
                .collect(),
            fwknopd: vec![case(Kind::Base64, 20_000, Sources::Each), case(Kind::Base64, 100_000, ONE)],
            ..Plan::full()
        }
    }

    /// Latency and throughput alone.
    pub(crate) fn rounds() -> Plan {
        let none = Vec::new;
        Plan { stamped: none(), doors: none(), plain: none(), fwknopd: none(), ..Plan::quick() }
    }
}

/// A door opens once for an address, so each knock comes from a new one.
fn doors() -> [Case; 3] {
    let case = |kind, rate, from| Case { knocker: Knocker::Stranger, ..case(kind, rate, from) };
    [
        case(Kind::Mixed, 20_000, Sources::Each),
        case(Kind::CopiedBeacon, 100_000, Sources::Each),
        case(Kind::StampedLooking, 400_000, ONE),
    ]
}

/// The floods that only plain knocks fear.
fn plain_only() -> [Case; 2] {
    [
        Case { knocker: Knocker::Flooder, ..case(Kind::RightLength, 1_000, ONE) },
        Case { knocker: Knocker::Stranger, ..case(Kind::RightLength, 20_000, Sources::Each) },
    ]
}

fn case(kind: Kind, rate: u64, sources: Sources) -> Case {
    Case { kind, rate, sources, knocker: Knocker::Known }
}

const RATES: [u64; 6] = [1_000, 5_000, 20_000, 50_000, 100_000, 400_000];
const ONE: Sources = Sources::One(FLOODER);
const BOTH: [Sources; 2] = [ONE, Sources::Each];

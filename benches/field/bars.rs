//! The bars, and whether they are met.

use std::fmt;

use crate::floods::{FLOODER, Knocker, Outcome};
use crate::garbage::Kind;
use crate::load::Sources;
use crate::siglatchd::DOORS;
use crate::stats::Figures;
use crate::{LATENCY, THROUGHPUT};

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    name: String,
    verdict: Verdict,
    figures: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    NotMet,
    NotMeasured,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT MET",
            Verdict::NotMeasured => "not measured",
        };
        write!(f, "{verdict:12}  {}: {}", self.name, self.figures)
    }
}

/// All of them, in order.
pub(crate) fn bars(figures: &Figures, floods: &[Outcome]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for who in ["siglatchd stamped", "siglatchd plain"] {
        bars.push(at_most(
            &format!("1. latency of {who} / fwknopd's <= 0.8"),
            figures,
            (LATENCY, who, "fwknopd"),
            0.8,
        ));
        bars.push(at_most(
            &format!("1. latency of {who} / floor <= 1.35"),
            figures,
            (LATENCY, who, "floor"),
            1.35,
        ));
    }
    for who in ["siglatchd stamped", "siglatchd plain"] {
        let name = |bar: &str| format!("2. knocks a second of {who} / {bar}");
        bars.push(at_least(&name("fwknopd's >= 1.5"), figures, (THROUGHPUT, who, "fwknopd"), 1.5));
        bars.push(at_least(&name("floor >= 0.8"), figures, (THROUGHPUT, who, "floor"), 0.8));
    }
    let run_as = (THROUGHPUT, "siglatchd plain, run_as", "siglatchd plain");
    bars.push(at_least("2. knocks a second with run_as / without >= 0.75", figures, run_as, 0.75));
    bars.extend(stamped(floods));
    bars.extend(plain(floods));
    bars.extend(resources(figures, floods));
    bars
}

fn at_most(name: &str, figures: &Figures, of: (&str, &str, &str), most: f64) -> Bar {
    ratio(name, figures, of, |ratio| ratio <= most)
}

fn at_least(name: &str, figures: &Figures, of: (&str, &str, &str), least: f64) -> Bar {
    ratio(name, figures, of, |ratio| ratio >= least)
}

/// Says beside it what the floor's ratio is: no system on this machine can have a better one.
fn ratio(
    name: &str,
    figures: &Figures,
    (what, who, than): (&str, &str, &str),
    is_met: impl Fn(f64) -> bool,
) -> Bar {
    let values = figures.of(what, who).zip(figures.of(what, than));
    let (verdict, mut text) = match values {
        Some((who, than)) => {
            (judged(is_met(who / than)), format!("{:.2} ({who:.0} / {than:.0})", who / than))
        }
        None => (Verdict::NotMeasured, String::new()),
    };
    if let Some((floor, than)) = figures.of(what, "floor").zip(figures.of(what, than))
        && than != floor
    {
        text.push_str(&format!(", the floor's is {:.2}", floor / than));
    }
    Bar { name: name.to_owned(), verdict, figures: text }
}

fn stamped(floods: &[Outcome]) -> Vec<Bar> {
    let of = |who: &str, most: u64, least: u64| -> Vec<&Outcome> {
        let fits = |flood: &&Outcome| flood.who == who && (least..=most).contains(&flood.case.rate);
        floods.iter().filter(fits).collect()
    };
    let stamped = |most, least| of("siglatchd stamped", most, least);
    let doors = of(DOORS, u64::MAX, 0);
    let mut fastest = stamped(u64::MAX, 400_000);
    fastest.retain(|flood| match flood.case.kind {
        Kind::Random | Kind::RightLength | Kind::StampedLooking | Kind::Base64 => true,
        Kind::CopiedBeacon | Kind::Replayed | Kind::Mixed => false,
    });
    let slow = stamped(u64::MAX, 0);
    let slow = [slow, doors.clone()].concat();
    let p99 = slow.iter().map(|flood| flood.p99()).fold(0.0, f64::max);
    vec![
        survived("3. stamped, up to 100k/s of any garbage: all ran", &stamped(100_000, 0), 1.0),
        survived("3. stamped, 400k/s that the kernel can tell: >= 99 %", &fastest, 0.99),
        survived("3. stamped for doors with leases and a quota: all ran", &doors, 1.0),
        Bar {
            name: "4. latency of a stamped knock in any flood: p99 < 50 ms".to_owned(),
            verdict: if slow.is_empty() { Verdict::NotMeasured } else { judged(p99 < 50.0) },
            figures: format!("the worst of {} floods {p99:.1} ms", slow.len()),
        },
    ]
}

fn plain(floods: &[Outcome]) -> Vec<Bar> {
    let plain = |rate: u64, knocker: Knocker, sources: Sources| -> Vec<&Outcome> {
        let fits = |flood: &&Outcome| {
            let case = flood.case;
            flood.who == "siglatchd plain"
                && (case.rate, case.knocker, case.sources) == (rate, knocker, sources)
        };
        floods.iter().filter(fits).collect()
    };
    let one = Sources::One(FLOODER);
    let mut bars = vec![
        survived(
            "3. plain, 1k/s from the knocker's own address: all ran",
            &plain(1_000, Knocker::Flooder, one),
            1.0,
        ),
        survived("3. plain, 20k/s from another address: >= 99 %", &plain(20_000, Knocker::Known, one), 0.99),
        survived(
            "3. plain, 20k/s from new addresses, knocked well before: >= 99 %",
            &plain(20_000, Knocker::Known, Sources::Each),
            0.99,
        ),
    ];
    for flood in plain(20_000, Knocker::Stranger, Sources::Each) {
        let share = flood.opened.unwrap_or(0) as f64 / (flood.garbage.datagrams as f64 + flood.knocks as f64);
        let sigma = (share * (1.0 - share) / flood.knocks as f64).sqrt();
        bars.push(Bar {
            name:
                "3. plain, 20k/s from new addresses, never knocked before: budget / arrivals within 3 sigma"
                    .to_owned(),
            verdict: judged(flood.share() >= share - 3.0 * sigma),
            figures: format!(
                "{} of {} ran, {:.1} % of all were opened (sigma {:.1} %)",
                flood.ran,
                flood.knocks,
                share * 100.0,
                sigma * 100.0
            ),
        });
    }
    bars
}

fn resources(figures: &Figures, floods: &[Outcome]) -> Vec<Bar> {
    let ours: Vec<_> = floods.iter().filter(|flood| flood.who.starts_with("siglatchd")).collect();
    let most = ours.iter().map(|flood| flood.pss.1).max().unwrap_or(0);
    let lines = ours.iter().map(|flood| flood.lines).max().unwrap_or(0);
    let idle = figures.of(crate::MEMORY, "siglatchd stamped");
    let measured = |verdict| if ours.is_empty() { Verdict::NotMeasured } else { verdict };
    vec![
        Bar {
            name: "5. resident memory idle <= 10 MB".to_owned(),
            verdict: idle.map_or(Verdict::NotMeasured, |idle| judged(idle <= 10.0)),
            figures: format!("{:.1} MB", idle.unwrap_or(0.0)),
        },
        Bar {
            name: "5. resident memory in floods is bounded".to_owned(),
            verdict: measured(judged(most <= 32 << 10)),
            figures: format!("the most in any of {} floods {:.1} MB", ours.len(), most as f64 / 1024.0),
        },
        Bar {
            name: "5. log in floods <= 1 line in 10 s".to_owned(),
            verdict: measured(judged(lines <= 1)),
            figures: format!("the most in any of {} floods {lines} lines", ours.len()),
        },
    ]
}

fn survived(name: &str, floods: &[&Outcome], least: f64) -> Bar {
    let worst = floods.iter().min_by(|a, b| a.share().total_cmp(&b.share()));
    let (verdict, figures) = match worst {
        Some(worst) => (
            judged(worst.share() >= least),
            format!(
                "the worst of {} floods: {} of {} ran at {:.0}/s of {}",
                floods.len(),
                worst.ran,
                worst.knocks,
                worst.garbage.per_second(),
                worst.case.kind.name()
            ),
        ),
        None => (Verdict::NotMeasured, String::new()),
    };
    Bar { name: name.to_owned(), verdict, figures }
}

fn judged(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::NotMet }
}

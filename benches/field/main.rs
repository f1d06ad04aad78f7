//! siglatchd beside fwknopd, beside what the machine can do at best, in one run. Started by `scripts/bench`, which
//! installs what is needed; docs/benchmark.md says what is measured and how.
//!
//! Contenders take turns in rounds, each in a network namespace of its own ([`ground`]). What a knock runs is a static
//! program (`arrived.c`) that tells when its first instruction ran, so that latency is from the send to there.
//!
//! Only loopback in these namespaces is ever sent to. Daemons end with this process, however it ends.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measurement reads clocks, starts programs and counts; it stops at what it did not expect"
)]

mod arrivals;
mod bars;
mod clock;
mod contender;
mod floods;
mod floors;
mod fwknopd;
mod garbage;
mod ground;
mod idle;
mod load;
mod plan;
mod process;
mod shares;
mod siglatchd;
mod stats;
mod svg;
mod tables;

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use siglatch::listener::opener::Opener;

use arrivals::Arrivals;
use contender::{Contender, Limits};
use floods::{Case, Knocker, Outcome};
use fwknopd::Fwknopd;
use plan::Plan;
use siglatchd::{Siglatchd, Site, Way};
use stats::{Figures, median};
use svg::Line;

/// What stops a measurement is told to whoever started it.
pub(crate) type Try<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Names of what is measured in rounds.
pub(crate) const LATENCY: &str = "latency from send to first instruction";
pub(crate) const THROUGHPUT: &str = "knocks in a closed loop";
pub(crate) const MEMORY: &str = "resident memory, idle";
const PARTS: &str = "what the floors are made of";
const SHARES: &str = "processor time of a knock in the closed loop";
const OPENED: &str = "private-key operations per core";
/// Whose figures the others are compared with.
const REFERENCE: &str = "siglatchd stamped";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [depth, work, out] = arguments.as_slice() else {
        drop(writeln!(std::io::stderr(), "run scripts/bench, which starts this with what it needs"));
        return ExitCode::from(64);
    };
    let plan = match depth.as_str() {
        "quick" => Plan::quick(),
        "rounds" => Plan::rounds(),
        _ => Plan::full(),
    };
    match run(&plan, Path::new(work), Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

/// `work` holds siglatchd and the script; `out` takes the figures.
fn run(plan: &Plan, work: &Path, out: &Path) -> Try<()> {
    let arrivals = Arrivals::new(work)?;
    let script = work.join("arrived");
    let site = Site::new(work.join("siglatch"), work.join("siglatchd"), &script, &arrivals)?;
    let stamped = Siglatchd { site: &site, way: Way::Stamped };
    let plain = Siglatchd { site: &site, way: Way::Plain };
    let run_as = Siglatchd { site: &site, way: Way::RunAs };
    let doors = Siglatchd { site: &site, way: Way::Door };
    let fwknopd = Fwknopd::new(work.join("fwknop"), &script, &arrivals)?;

    let contenders: Vec<&dyn Contender> = vec![&stamped, &plain, &run_as, &fwknopd];
    let turns: Vec<(&dyn Contender, &[Case])> = vec![
        (&stamped, &plan.stamped),
        (&doors, &plan.doors),
        (&plain, &plan.plain),
        (&fwknopd, &plan.fwknopd),
    ];

    let mut figures = Figures::default();
    let opener = Opener::new(site.key.der())?;
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds))?;
        for contender in &contenders {
            one_at_a_time(*contender, plan, &arrivals, &mut figures)?;
        }
        latency_floor(&opener, &plain, plan, &script, &arrivals, &mut figures)?;
        for contender in &contenders {
            closed_loop(*contender, plan, &arrivals, &mut figures)?;
        }
        throughput_floor(&opener, &plain, plan, &script, &arrivals, &mut figures)?;
    }

    let mut floods = Vec::new();
    for at in 0..turns.iter().map(|(_, cases)| cases.len()).max().unwrap_or(0) {
        for (contender, cases) in &turns {
            let Some(case) = cases.get(at) else { continue };
            say(&format!("{}: flood of {}/s, {}", contender.name(), case.rate, case.kind.name()))?;
            floods.push(floods::flood(*contender, *case, plan.flood, &arrivals)?);
        }
    }
    report(&figures, &floods, out)
}

/// Latency and memory of an idle daemon.
fn one_at_a_time(
    contender: &dyn Contender,
    plan: &Plan,
    arrivals: &Arrivals,
    figures: &mut Figures,
) -> Try<()> {
    let running = contender.start(Limits::Shipped)?;
    let knocks = contender.knocks(plan.knocks + WARM_UP)?;
    let took = idle::latency(&running, &knocks, plan.pause, arrivals)?;
    figures.add(LATENCY, contender.name(), "us", median(&took[WARM_UP..]));
    std::thread::sleep(SETTLE);
    figures.add(MEMORY, contender.name(), "MB", running.process.pss() as f64 / 1024.0);
    running.process.stop().map(drop)
}

fn closed_loop(
    contender: &dyn Contender,
    plan: &Plan,
    arrivals: &Arrivals,
    figures: &mut Figures,
) -> Try<()> {
    let knocks = contender.knocks((plan.closed_loop.as_secs_f64() * MOST_PER_SECOND) as usize)?;
    let running = contender.start(Limits::Lifted)?;
    let ran = idle::throughput(&running, &knocks, plan.closed_loop, arrivals)?;
    figures.add(THROUGHPUT, contender.name(), "1/s", ran.per_second);
    if contender.name() == REFERENCE {
        for (share, seconds) in &ran.shares {
            figures.add(SHARES, share, "us", seconds * 1e6 / ran.scripts as f64);
        }
    }
    running.process.stop().map(drop)
}

fn latency_floor(
    opener: &Opener,
    plain: &Siglatchd<'_>,
    plan: &Plan,
    script: &Path,
    arrivals: &Arrivals,
    figures: &mut Figures,
) -> Try<()> {
    let knocks = plain.knocks(plan.knocks)?;
    let (both, spawns) = floors::latency(opener, &knocks, plan.pause, script, arrivals)?;
    figures.add(LATENCY, "floor", "us", median(&both));
    figures.add(LATENCY, "floor: bare spawn alone", "us", median(&spawns));
    Ok(())
}

/// The processors do one private-key operation and one spawn-and-reap for each knock, and nothing else.
fn throughput_floor(
    opener: &Opener,
    plain: &Siglatchd<'_>,
    plan: &Plan,
    script: &Path,
    arrivals: &Arrivals,
    figures: &mut Figures,
) -> Try<()> {
    let knock = plain.knocks(1)?.pop().ok_or("no knock was made")?;
    let opened = floors::opened_per_second(opener, &knock, plan.closed_loop)?;
    let spawned = floors::spawned_per_second(script, &arrivals.fifo, plan.closed_loop)?;
    while arrivals.before(clock::nanos() + clock::ns(SETTLE)).is_some() {}
    let received = floors::received_per_second(plan.closed_loop)?;
    let processors = std::thread::available_parallelism()?.get() as f64;
    figures.add(THROUGHPUT, "floor", "1/s", 1.0 / (1.0 / opened + 1.0 / spawned));
    figures.add(PARTS, OPENED, "1/s", opened / processors);
    figures.add(PARTS, "spawn and reap per core", "1/s", spawned / processors);
    figures.add(PARTS, "receive and drop per core", "1/s", received);
    Ok(())
}

fn report(figures: &Figures, floods: &[Outcome], out: &Path) -> Try<()> {
    let write = |name: &str, text: &str| std::fs::write(out.join(name), text);
    let mut text = tables::figures_text(figures, REFERENCE)?;
    text.push_str(&tables::floods_text(floods)?);
    text.push('\n');
    for bar in bars::bars(figures, floods) {
        text.push_str(&format!("{bar}\n"));
    }
    let steady = figures.0.iter().filter(|series| series.who == OPENED);
    for (least, most) in steady.map(stats::Series::range).filter(|(least, most)| most / least > 1.1) {
        let unsteady = format!("from {least:.0} to {most:.0} private-key operations a second and core");
        text.push_str(&format!(
            "\nThe machine did something else beside ({unsteady}): these figures are worth little.\n"
        ));
    }
    write("figures.txt", &text)?;
    write("figures.csv", &tables::figures_csv(figures)?)?;
    write("floods.csv", &tables::floods_csv(floods)?)?;
    write("latency.svg", &svg::bars(figures, LATENCY, "less is better")?)?;
    write("throughput.svg", &svg::bars(figures, THROUGHPUT, "more is better")?)?;
    write("floods.svg", &svg::lines("valid knocks that ran, by datagrams of garbage", &survival(floods))?)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// A line for each contender and sort of sources: at each rate the worst that any kind of garbage did.
fn survival(floods: &[Outcome]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut known: Vec<_> = floods.iter().filter(|flood| flood.case.knocker == Knocker::Known).collect();
    known.sort_by(|a, b| a.share().total_cmp(&b.share()));
    for flood in known {
        let name = format!("{}, garbage from {}", flood.who, flood.case.sources.name());
        let point = (flood.case.rate as f64, flood.share());
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) if line.points.iter().any(|(rate, _)| *rate == point.0) => {}
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }
    lines.sort_by(|a, b| b.name.cmp(&a.name));
    lines
}

fn say(what: &str) -> Try<()> {
    Ok(writeln!(std::io::stderr(), "{what}")?)
}

/// Knocks before those that count: caches and page tables are cold after a start.
const WARM_UP: usize = 5;
/// Until a daemon has reaped its last script.
const SETTLE: Duration = Duration::from_millis(200);
/// Made before a closed loop; one that needs more ends early.
const MOST_PER_SECOND: f64 = 2_500.0;

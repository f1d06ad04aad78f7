//! What a datagram costs, in instructions: a guard that does not depend on the clock.
//!
//! Each path of [`world`] runs under valgrind's callgrind in worlds of different [`Size`]: with 1 and 10,000 users, 1 and 250
//! actions, 0 and 1,000,000 remembered nonces. No size may cost more than a tenth above another, and nothing may be more
//! than a twentieth, or the ten instructions of a call, off the figures in `figures.txt`. `scripts/cost` runs it; `scripts/cost --renew` writes new figures.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement stops at what it did not expect, and starts itself under valgrind"
)]

#[path = "../common/mod.rs"]
mod common;
mod figures;
mod valgrind;
mod world;

use std::process::ExitCode;

use figures::Figures;
use world::Size;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        // By itself, under valgrind.
        ["--inside", size] => {
            world::run(Size::named(size).unwrap());
            ExitCode::SUCCESS
        }
        [] => verdict(&Figures::measure().compare(&Figures::committed())),
        ["--renew"] => {
            Figures::measure().commit();
            ExitCode::SUCCESS
        }
        _ => panic!("usage: cargo bench --bench cost [-- --renew]"),
    }
}

fn verdict(problems: &[String]) -> ExitCode {
    problems.iter().for_each(|problem| println!("{problem}"));
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

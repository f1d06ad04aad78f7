//! `siglatchctl test-knock` and `explain --datagram`: what would become of a knock.

use std::io::Read as _;

use super::args;
use super::args::Way;
use super::ask::{ask, nothing};
use super::history;
use crate::config::TEXT_MAX;
use crate::control::{Datagram, Explained, Reply, Request, TestKnock};
use crate::exit::{self, Exit, Failure};

/// Tries a user's knock.
pub(super) fn test_knock(args: &args::TestKnock) -> Result<(), Failure> {
    let (user, action, from) = (args.user.to_string(), args.action.clone(), args.from);
    tell(&args.way, &Request::TestKnock(TestKnock { user, action, from }))
}

/// Tells the story of a knock that came, or of a datagram that might.
pub(super) fn explain(args: &args::audit::Explain) -> Result<(), Failure> {
    match (args.knock, &args.datagram) {
        (Some(knock), _) => history::explain(&args.way.config, knock),
        (None, datagram) => self::datagram(args, datagram.clone().unwrap_or_default()),
    }
}

fn datagram(args: &args::audit::Explain, mut hex: String) -> Result<(), Failure> {
    if hex == "-" {
        hex.clear();
        let read = std::io::stdin().take(TEXT_MAX).read_to_string(&mut hex);
        read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read standard input: {error}")))?;
    }
    let hex = hex.split_whitespace().collect();
    tell(&args.way, &Request::Explain(Datagram { hex, from: args.from }))
}

fn tell(way: &Way, request: &Request) -> Result<(), Failure> {
    let reply = ask(way, request)?;
    let Reply::Explained(Explained { knock, refused, why }) = reply else { return Err(nothing(&reply)) };
    if let Some(knock) = knock {
        let made = jiff::Timestamp::from_second(knock.timestamp.into())
            .map_or_else(|_| String::new(), |at| at.to_string());
        let stamped = if knock.stamped { "stamped" } else { "plain" };
        exit::say(&format!(
            "knock {} of {} for action {}, made {made}, bound to {}, {stamped}\n",
            knock.id, knock.user, knock.action, knock.bound
        ))?;
    }
    match refused {
        None => exit::say(&format!("{why}\n")),
        Some(code) => Err(Failure::new(Exit::Permission, format!("it would be refused: {code}: {why}"))),
    }
}

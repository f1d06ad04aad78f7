//! `siglatch whoami`: a knock whose answer is all that it is for.

use super::answer::{self, Until};
use super::args;
use super::knock;
use super::target::{self, Target};
use crate::exit::{self, Exit, Failure};
use crate::wire::Binding;
use crate::wire::receipt::Status;
use crate::wire::stamp::Postage;

/// Runs the command.
pub(super) fn whoami(args: &args::Whoami) -> Result<(), Failure> {
    let args::Whoami { profile, action, wait, json } = args;
    let target = Target::of_invite(target::profile(profile)?, action)?;
    if target.postage == Postage::Plain {
        let what = format!("the profile {profile} sends plain knocks, and there is no receipt for these");
        return Err(
            Failure::new(Exit::Config, what).hint("write `stamp = true` into it, or ask for a new invite")
        );
    }
    let how = args::Knock { quiet: true, ..args::Knock::default() };
    let binding = target.server_id.map_or(Binding::None, Binding::Server);
    let sent = knock::send(&how, &target, b"", binding, knock::destinations(&how, &target)?)?;
    let heard = answer::wait(&sent, &target.hmac_key, *wait, Until::LastWords);
    for (sent, heard) in sent.iter().zip(heard) {
        if *json {
            exit::say(&answer::json_line(&target, sent, &heard, *wait))?;
        }
        match &heard.receipt {
            Some(receipt) if receipt.status == Status::Done && !json => {
                exit::say(&format!("{}\n", answer::whoami_words(receipt)))?;
            }
            Some(_) | None => drop(heard.judged(&target.what, sent, *wait)?),
        }
    }
    Ok(())
}

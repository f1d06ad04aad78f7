//! `siglatch key rotate`, and what `siglatch join` does with an invite whose key is good for nothing else: the exchange of a
//! profile's key for one that only its user and the server know.
//!
//! Our half is in the profile before it is sent: whatever comes between, it is sent again, and no other. The server takes one
//! alone.

use std::time::Duration;

use zeroize::Zeroizing;

use super::answer::{self, Until as Wait};
use super::args;
use super::knock;
use super::profile::Profiles;
use super::target::Target;
use crate::config::files::Existing;
use crate::exit::{self, Exit, Failure};
use crate::wire::enrol::{EnrolSecret, Exchanged};
use crate::wire::invite::{Enrol, Name, Until};
use crate::wire::options::Options;
use crate::wire::stamp::Postage;
use crate::wire::{Binding, Invite, ServerId};

/// Runs the command.
pub(super) fn rotate(args: &args::KeyRotate) -> Result<(), Failure> {
    let profiles = Profiles::of_environment()?;
    exchange(&profiles, &profiles.find(&args.profile)?, args.wait)
}

/// Exchanges the key of a profile.
///
/// # Errors
///
/// [`Failure`]: the profile is as it was, or holds our half, with which the next try goes on.
pub(super) fn exchange(profiles: &Profiles, name: &Name, patience: Duration) -> Result<(), Failure> {
    // Of two at once one would send what the server refuses.
    let _lock = profiles.lock()?;
    let invite = profiles.load(name)?;
    let (Some(enrol), Some(server)) = (invite.enrol.clone(), invite.server_id) else {
        let what = format!("the profile {name} holds nothing to exchange its key with");
        return Err(Failure::new(Exit::Config, what).hint("ask for a new invite"));
    };
    let secret = match &enrol.secret {
        Some(secret) => secret.clone(),
        None => EnrolSecret::new(*Zeroizing::new(knock::random()?)),
    };
    let under_way = Enrol { secret: Some(secret.clone()), ..enrol.clone() };
    profiles.install(&Invite { enrol: Some(under_way), ..invite.clone() }, Existing::Replace)?;
    let of = Exchanged { key: &invite.hmac_key, server, user: invite.user_id };
    let new = secret.at_client(enrol.server, of).ok_or_else(|| {
        Failure::new(Exit::Config, format!("the server's half in the profile {name} is none"))
            .hint("ask for a new invite")
    })?;
    let asked = send(&invite, &enrol, server, &secret, patience);

    let enrol_then = Enrol { until: Until::All, secret: None, ..enrol.clone() };
    let exchanged = Invite { hmac_key: new, enrol: Some(enrol_then.clone()), ..invite };
    if let Err(failure) = asked {
        // What it said before may have been lost: then it has the new key, and no use for the old one.
        if send(&exchanged, &enrol_then, server, &secret, patience).is_err() {
            return Err(told(name, enrol.until, failure));
        }
        profiles.install(&exchanged, Existing::Replace)?;
        return exit::say(&done(name));
    }
    profiles.install(&exchanged, Existing::Replace)?;
    match send(&exchanged, &enrol_then, server, &secret, patience) {
        Ok(()) => exit::say(&done(name)),
        Err(failure) => {
            exit::note(&format!("warning: {}", failure.what));
            exit::say(&format!("{name} has another key; the old one ends with your next knock\n"))
        }
    }
}

fn done(name: &Name) -> String {
    format!("the key of {name} is another now, which only you and the server know\n")
}

/// Knocks for it, and waits until the server has said that it is so.
fn send(
    invite: &Invite,
    enrol: &Enrol,
    server: ServerId,
    secret: &EnrolSecret,
    patience: Duration,
) -> Result<(), Failure> {
    let target = Target::of_invite(invite.clone(), &enrol.action.to_string())?;
    // Only a stamped knock is answered.
    let what = "exchange of the key".to_owned();
    let target = Target { postage: Postage::Stamped, action: enrol.action, what, ..target };
    let options = Options { argument: Some(secret.public().0.to_vec()), ..Options::default() };
    let payload = target.with(&options, b"")?;
    let how = args::Knock { quiet: true, ..args::Knock::default() };
    let to = knock::destinations(&how, &target)?;
    let sent = knock::send(&how, &target, &payload, Binding::Server(server), to)?;
    let heard = answer::wait(&sent, &target.hmac_key, patience, Wait::LastWords);
    for (sent, heard) in sent.iter().zip(heard) {
        if let (Exit::StillRunning, words) = heard.judged(&target.what, sent, patience)? {
            return Err(Failure::new(Exit::NoAnswer, words));
        }
    }
    Ok(())
}

/// What is to be done about it.
fn told(name: &Name, until: Until, failure: Failure) -> Failure {
    let again = format!("siglatch key rotate {name} tries again");
    let hint = match (failure.exit, until) {
        (Exit::Permission, _) if failure.what.contains("key-taken") => {
            "somebody else has sent for a key with yours: tell the administrator".to_owned()
        }
        (Exit::Permission, Until::Nothing) => "ask the administrator for another invite".to_owned(),
        (Exit::Permission, Until::All) => {
            "the administrator has to give leave: siglatchctl key rotate user".to_owned()
        }
        (Exit::NoAnswer, Until::Nothing) => {
            format!(
                "an invite that was used before gets no answer: if it was not you who did, tell the administrator; else {again}"
            )
        }
        (_, Until::Nothing | Until::All) => again,
    };
    let hint = failure.hint.iter().cloned().chain([hint]).collect::<Vec<_>>().join("; ");
    failure.hint(hint)
}

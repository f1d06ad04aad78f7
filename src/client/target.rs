//! Who knocks where and for what: from a profile, or from the options that stand in its place.

use std::net::IpAddr;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use zeroize::Zeroizing;

use super::args::{Cli, Direct, Knock};
use super::profile::Profiles;
use crate::config::files::{self, Secrecy};
use crate::exit::{Exit, Failure};
use crate::wire::invite::{Action, Answers, Asks, Host, Name, Opens, Until};
use crate::wire::options::Options;
use crate::wire::stamp::Postage;
use crate::wire::{ActionId, HmacKey, Invite, PublicKey, ServerId, UserId};

/// All that a knock needs but payload, time and challenge.
pub(super) struct Target {
    /// What the user calls the server.
    pub(super) label: String,
    /// `alice (1)`, or the number alone.
    pub(super) who: String,
    /// `ssh (1)`, or the number alone.
    pub(super) what: String,
    pub(super) host: Host,
    /// Where it is when nothing knows that name.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) server_id: Option<ServerId>,
    pub(super) user: UserId,
    pub(super) hmac_key: HmacKey,
    pub(super) server_key: PublicKey,
    pub(super) action: ActionId,
    /// What the action does, where there is a profile to say it.
    pub(super) opens: Option<Opens>,
    /// What the profile says that it asks for.
    pub(super) asks: Asks,
    pub(super) postage: Postage,
    pub(super) answers: Answers,
}

/// Where the payload comes from besides the options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    /// The line ends in a bare `-`: from standard input.
    Given,
    /// It does not.
    Absent,
}

/// Why there is no target.
pub(super) enum NoTarget {
    /// The command line is wrong; clap says how.
    Usage(clap::Error),
    /// Something else is.
    Failure(Failure),
}

impl From<Failure> for NoTarget {
    fn from(failure: Failure) -> NoTarget {
        NoTarget::Failure(failure)
    }
}

impl Target {
    /// Makes sense of the words and reads the files they name.
    pub(super) fn of(args: &Knock) -> Result<(Target, Dash), NoTarget> {
        let (words, dash) = match args.words.split_last() {
            Some((last, words)) if last == "-" => (words, Dash::Given),
            Some(_) | None => (args.words.as_slice(), Dash::Absent),
        };
        let target = match (&args.direct.host, words) {
            (Some(host), [action]) => direct(host, &args.direct, action)?,
            (Some(_), _) => return Err(usage("with --host, give one word: the action's number")),
            (None, [word, action]) => Target::of_invite(profile(word)?, action)?,
            (None, _) => {
                return Err(usage(
                    "give a profile and an action, as in: siglatch knock office ssh\n\
                     (`siglatch profiles` lists them; without a profile, give --host)",
                ));
            }
        };
        let postage = match (args.stamp, args.no_stamp) {
            (true, _) => Postage::Stamped,
            (false, true) => Postage::Plain,
            (false, false) => target.postage,
        };
        Ok((Target { postage, ..target }, dash))
    }

    /// For one of a profile's actions.
    pub(super) fn of_invite(invite: Invite, action: &str) -> Result<Target, Failure> {
        let (Action { id, opens, asks }, what) = action_of(&invite, action)?;
        Ok(Target {
            label: invite.name.to_string(),
            who: format!("{} ({})", invite.user, invite.user_id),
            what,
            host: invite.host,
            addresses: invite.addresses,
            port: invite.port,
            server_id: invite.server_id,
            user: invite.user_id,
            hmac_key: invite.hmac_key,
            server_key: invite.server_key,
            action: id,
            opens: Some(opens),
            asks,
            postage: invite.postage,
            answers: invite.answers,
        })
    }

    /// The payload with these options in front. To an action that is no door those of doors would be payload.
    pub(super) fn with(&self, options: &Options, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let of_a_door = options.hold.is_some() || options.address.is_some() || options.release.is_some();
        if of_a_door && self.opens == Some(Opens::Nothing) {
            let Target { label, action, .. } = self;
            let what = format!(
                "the profile {label} does not say that action {action} is a door: it takes no such option"
            );
            return Err(Failure::new(Exit::Usage, what).hint(
                "ask for a new invite if it is one; an old server closes by an action of its own, if at all",
            ));
        }
        let bytes = options.join(payload);
        bytes.map(Zeroizing::new).map_err(|error| {
            Failure::new(Exit::Usage, error.to_string()).hint("nothing was sent; send less payload")
        })
    }
}

/// Reads the profile of that name.
pub(super) fn profile(profile: &str) -> Result<Invite, Failure> {
    let profiles = Profiles::of_environment()?;
    let invite = profiles.load(&profiles.find(profile)?)?;
    if invite.enrol.as_ref().is_some_and(|enrol| enrol.until == Until::Nothing) {
        let what = format!("the key of {profile} is its invite's: it is good for nothing but another");
        return Err(Failure::new(Exit::Config, what).hint(format!("siglatch key rotate {profile}")));
    }
    Ok(invite)
}

/// An action by name, or else by number; a number need not have a name.
fn action_of(invite: &Invite, word: &str) -> Result<(Action, String), Failure> {
    let named = Name::parse(word).and_then(|name| invite.actions.get_key_value(&name));
    let id = match named {
        Some((name, action)) => return Ok((*action, format!("{name} ({})", action.id))),
        None => number(word),
    };
    let Some(id) = id else {
        let what = format!("profile {} has no action {word:?}", invite.name);
        let hint = format!("its actions are: {}; or give a number, 1 to 255", super::action_list(invite));
        return Err(Failure::new(Exit::Usage, what).hint(hint));
    };
    let named = invite.actions.iter().find(|(_, known)| known.id == id);
    let unnamed = (Action { id, opens: Opens::Nothing, asks: Asks::Nothing }, id.to_string());
    Ok(named.map_or(unnamed, |(name, action)| (*action, format!("{name} ({id})"))))
}

fn direct(host: &Host, args: &Direct, action: &str) -> Result<Target, NoTarget> {
    let Direct {
        port: Some(port),
        user_id: Some(user_id),
        server_key: Some(server_key),
        hmac_key: Some(hmac_key),
        ..
    } = args
    else {
        return Err(usage("--host needs --port, --user-id, --server-key and --hmac-key"));
    };
    let Some(action) = number(action) else {
        return Err(usage("with --host, the action is a number, 1 to 255"));
    };
    let wrong = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failure::new(Exit::Config, format!("{}: {error}", path.display()))
    };
    let pem = files::read(server_key, Secrecy::Public, KEY_FILE_MAX).map_err(Failure::from)?;
    let pem = String::from_utf8_lossy(&pem);
    let key = files::read(hmac_key, Secrecy::Secret, KEY_FILE_MAX).map_err(Failure::from)?;
    Ok(Target {
        label: host.to_string(),
        who: user_id.to_string(),
        what: action.to_string(),
        host: host.clone(),
        addresses: Vec::new(),
        port: *port,
        server_id: args.server_id,
        user: UserId(*user_id),
        hmac_key: HmacKey::parse(&key).map_err(|error| wrong(hmac_key, &error))?,
        server_key: PublicKey::from_pem(&pem).map_err(|error| wrong(server_key, &error))?,
        action,
        opens: None,
        asks: Asks::Nothing,
        answers: Answers::Nothing,
        // A server that has an id takes stamps; siglatch v1 has none and takes none.
        postage: if args.server_id.is_some() { Postage::Stamped } else { Postage::Plain },
    })
}

fn number(word: &str) -> Option<ActionId> {
    ActionId::new(word.parse().ok()?)
}

/// A mistake on the command line of `siglatch knock`, shown as clap shows its own.
pub(super) fn usage(message: &str) -> NoTarget {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut("knock");
    NoTarget::Usage(match command {
        Some(knock) => knock.error(ErrorKind::WrongNumberOfValues, message),
        None => cli.error(ErrorKind::WrongNumberOfValues, message),
    })
}

const KEY_FILE_MAX: u64 = 16 * 1024;

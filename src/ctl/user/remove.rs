//! `siglatchctl user remove`: a user's table and keys are gone, and the running daemon knows.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;

use crate::config::change::Change;
use crate::control::{How, Reply, Request, Set};
use crate::ctl::args::{UserRemove, Way};
use crate::ctl::ask::{ask, folder, nothing};
use crate::ctl::document::{Document, Standing, lock};
use crate::exit::{self, Exit, Failure};
use crate::store::journal::Folder;
use crate::wire::invite::Name;
use crate::work::leases::Whom;

/// Runs the command.
pub(in crate::ctl) fn remove(args: &UserRemove) -> Result<(), Failure> {
    let _lock = lock(&args.way.config)?;
    let mut document = Document::open(&args.way.config)?;
    if let Err(failure) = known(&document, &args.name) {
        // One who was removed from the files before siglatchd was told, is out now.
        if let Ok(Reply::Reloaded { .. }) = ask(&args.way, &Request::Reload) {
            drop(ask(&args.way, &Request::Revoke(Whom::User(args.name.to_string()))));
        }
        return Err(failure);
    }
    let keys = own_keys(&document, &args.name);
    if !args.yes {
        let name = &args.name;
        let files: Vec<String> = keys.iter().map(|key| key.display().to_string()).collect();
        let asked = format!("this removes {name}, and {}", files.join(" and "));
        confirm(&format!("this would remove {name} and his keys"), &asked)?;
    }
    document.remove_user(&args.name);
    document.keep_old(OLD)?;
    document.save()?;
    for key in &keys {
        match std::fs::remove_file(key) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!(
                    "{} is in the configuration no more, but {} cannot be removed: {error}",
                    args.name,
                    key.display()
                );
                return Err(Failure::new(Exit::of_io(&error), what).hint("remove it by hand"));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let config = document.path().display();
    exit::say(&format!("removed {}; as it was: {config}{OLD}\n", args.name))?;
    in_force(&args.way, &document, &args.name)
}

/// That there is such a user.
pub(in crate::ctl) fn known(document: &Document, name: &Name) -> Result<(), Failure> {
    match document.user(name) {
        Standing::Here | Standing::Elsewhere => Ok(()),
        Standing::Nowhere => {
            let what = format!("{}: there is no user {name}", document.path().display());
            Err(Failure::new(Exit::Usage, what).hint("siglatchctl user list names them"))
        }
    }
}

/// Whether a daemon goes by the configuration now.
pub(in crate::ctl) enum Known {
    /// It has read it.
    Now,
    /// It does not run: nothing is at this socket.
    AtStart(PathBuf),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Known::Now => write!(f, "siglatchd goes by that now"),
            Known::AtStart(socket) => {
                write!(
                    f,
                    "siglatchd does not run (nothing is at {}): it is so when it starts",
                    socket.display()
                )
            }
        }
    }
}

/// Has the running daemon read the configuration.
pub(in crate::ctl) fn have_read(way: &Way, document: &Document) -> Result<Known, Failure> {
    let socket = folder(document, "runtime_dir", "/run/siglatch").join(crate::control::SOCKET);
    if way.tcp.is_none() && !way.socket.as_ref().unwrap_or(&socket).exists() {
        let state = folder(document, "state_dir", "/var/lib/siglatch");
        if state.is_dir() && Folder::enter(&state).is_err_and(|error| error.exit == Exit::TryAgain) {
            let what =
                format!("the files are changed, but siglatchd runs and is not at {}", socket.display());
            return Err(Failure::new(Exit::TryAgain, what).hint(
                "say where with --socket, or in the environment that it has; then: siglatchctl reload",
            ));
        }
        return Ok(Known::AtStart(socket));
    }
    let failure = match ask(way, &Request::Reload) {
        Ok(Reply::Reloaded { .. }) => return Ok(Known::Now),
        Ok(other) => nothing(&other),
        Err(failure) => failure,
    };
    let hint = failure.hint.iter().map(String::as_str).chain(["then: siglatchctl reload"]);
    let hint = hint.collect::<Vec<_>>().join("; ");
    let what = format!("the files are changed, but siglatchd goes on as before: {}", failure.what);
    Err(Failure::new(failure.exit, what).hint(hint))
}

/// The same, and ends what the user holds. He is out also where siglatchd cannot read the files, for whatever else is wrong in them.
pub(in crate::ctl) fn in_force(way: &Way, document: &Document, user: &Name) -> Result<(), Failure> {
    let read = have_read(way, document);
    if let Ok(known @ Known::AtStart(_)) = &read {
        return exit::say(&format!("{known}\n"));
    }
    if let Err(failure) = read {
        let off = Change { key: format!("users.{user}.enabled"), value: Some("false".to_owned()) };
        let set = Request::Set(Set { changes: vec![off], how: How::Apply });
        let (Ok(Reply::Set(_)), Ok(Reply::Revoked(_))) =
            (ask(way, &set), ask(way, &Request::Revoke(Whom::User(user.to_string()))))
        else {
            return Err(failure);
        };
        let what = format!("{user} is switched off in siglatchd, and holds no lease; but {}", failure.what);
        return Err(Failure { what, ..failure });
    }
    let reply = ask(way, &Request::Revoke(Whom::User(user.to_string())))?;
    let Reply::Revoked(leases) = reply else { return Err(nothing(&reply)) };
    exit::say(&format!("{}; leases of {user} that were ended: {leases}\n", Known::Now))
}

/// The files of his keys that no other user has.
fn own_keys(document: &Document, name: &Name) -> BTreeSet<PathBuf> {
    let all = || ["hmac_key", "totp_key"].into_iter().flat_map(|key| document.key_files(key));
    let others: BTreeSet<PathBuf> =
        all().filter(|(user, _)| *user != name.as_str()).map(|(_, file)| file).collect();
    let own = all().filter(|(user, file)| *user == name.as_str() && !others.contains(file));
    own.map(|(_, file)| file).collect()
}

/// Asks, at a terminal; elsewhere `would` says what was not done.
pub(in crate::ctl) fn confirm(would: &str, asked: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, would).hint("--yes says that you mean it"));
    }
    let asked = format!("{asked}; type yes: ");
    let mut typed = String::new();
    let answer = write!(io::stderr().lock(), "{asked}").and_then(|()| stdin.lock().read_line(&mut typed));
    match answer {
        Ok(_) if typed.trim() == "yes" => Ok(()),
        Ok(_) | Err(_) => Err(Failure::new(Exit::TryAgain, "nothing was changed")),
    }
}

/// Behind the name of a configuration as it was before.
const OLD: &str = ".before-remove";

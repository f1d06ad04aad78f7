//! `siglatchd --check` and `siglatchctl check`, and the daemon's start: problems are told the same everywhere.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::resolved::{Doors, Sandbox};
use super::{Colours, Loaded, Problems, doors, load, missing_listener};
use crate::exit::{self, Exit, Failure};
use crate::layers::Layer;

/// Says whether siglatchd would take the file.
///
/// # Errors
///
/// As [`load_telling`].
pub fn check(file: &Path) -> Result<(), Failure> {
    let Loaded { config, warnings, unsaved: _ } = load_telling(file)?;
    show(&warnings);
    tell_sandbox(config.sandbox);
    let (file, users, actions) = (file.display(), config.users.len(), config.actions.len());
    exit::say(&format!("{file} is good: users: {users}, actions: {actions}\n"))
}

/// What of the listener's sandbox there will not be.
fn tell_sandbox(sandbox: Sandbox) {
    match sandbox {
        Sandbox::Off => exit::note("warning: `sandbox = \"off\"`: the listener is not locked in"),
        Sandbox::Required | Sandbox::BestEffort => {
            for layer in Layer::missing() {
                exit::note(&format!("warning: this kernel lacks {layer}, a layer of the listener's sandbox"));
                exit::note(&format!("   hint: {}", layer.hint()));
            }
        }
    }
}

/// Loads the file; problems go to standard error.
///
/// # Errors
///
/// [`Failure`] when there is a problem; what it is has been told. And when root has no user for the listener.
pub fn load_telling(file: &Path) -> Result<Loaded, Failure> {
    let loaded = load(file).map_err(|problems| {
        show(&problems);
        Failure::new(Exit::Config, format!("siglatchd would not take {}", file.display()))
    })?;
    match missing_listener() {
        Some(command) if loaded.config.sandbox != Sandbox::Off && loaded.config.listener_user.is_none() => {
            let what = "the process that reads from the network becomes a user that this machine lacks";
            Err(Failure::new(Exit::Config, what).hint(command))
        }
        Some(_) | None => Ok(loaded),
    }
}

/// Reads the doors of the file; problems go to standard error.
///
/// # Errors
///
/// [`Failure`] when there is a problem; what it is has been told.
pub fn doors_telling(file: &Path) -> Result<Doors, Failure> {
    doors(file).map_err(|problems| {
        show(&problems);
        Failure::new(Exit::Config, format!("the doors of {} cannot be told", file.display()))
    })
}

fn show(problems: &Problems) {
    if problems.is_empty() {
        return;
    }
    let colours = if io::stderr().is_terminal() { Colours::On } else { Colours::Off };
    exit::note(problems.render(colours).trim_end());
}

//! `siglatchd --check` and `siglatchctl check`, and the daemon's start: problems are told the same everywhere.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::{Colours, Loaded, Problems, load};
use crate::exit::{self, Exit, Failure};

/// Says whether siglatchd would take the file.
///
/// # Errors
///
/// As [`load_telling`].
pub fn check(file: &Path) -> Result<(), Failure> {
    let Loaded { config, warnings } = load_telling(file)?;
    show(&warnings);
    let (file, users, actions) = (file.display(), config.users.len(), config.actions.len());
    exit::say(&format!("{file} is good: users: {users}, actions: {actions}\n"))
}

/// Loads the file; problems go to standard error.
///
/// # Errors
///
/// [`Failure`] when there is a problem; what it is has been told.
pub fn load_telling(file: &Path) -> Result<Loaded, Failure> {
    load(file).map_err(|problems| {
        show(&problems);
        Failure::new(Exit::Config, format!("siglatchd would not take {}", file.display()))
    })
}

fn show(problems: &Problems) {
    if problems.is_empty() {
        return;
    }
    let colours = if io::stderr().is_terminal() { Colours::On } else { Colours::Off };
    exit::note(problems.render(colours).trim_end());
}

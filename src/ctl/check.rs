//! `siglatchctl check`: what siglatchd would say of a configuration.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use crate::config::{self, Colours, Loaded, Problems};
use crate::exit::{self, Exit, Failure};

/// Checks the file. Problems go to standard error, and so do warnings; only an error fails.
pub(super) fn check(file: &Path) -> Result<(), Failure> {
    match config::load(file) {
        Ok(Loaded { config, warnings }) => {
            show(&warnings);
            let (file, users, actions) = (file.display(), config.users.len(), config.actions.len());
            exit::say(&format!("{file} is good: users: {users}, actions: {actions}\n"))
        }
        Err(problems) => {
            show(&problems);
            let what = format!("siglatchd would not take {}", file.display());
            Err(Failure::new(Exit::Config, what))
        }
    }
}

fn show(problems: &Problems) {
    if problems.is_empty() {
        return;
    }
    let colours = if io::stderr().is_terminal() {
        Colours::On
    } else {
        Colours::Off
    };
    exit::note(problems.render(colours).trim_end());
}

//! Settings that waited for this start: written down when it has come to receive.

use super::Keeper;
use crate::config::change;
use crate::exit::Failure;
use crate::keeper::pending;

impl Keeper {
    /// The daemon has started with what waited for it.
    pub(super) fn keep_taken_over(&mut self) {
        let (changes, folder) = std::mem::take(&mut self.taken_over);
        if changes.is_empty() {
            return;
        }
        let settings = changes.iter().map(change::Change::to_string).collect::<Vec<_>>().join(", ");
        match pending::keep(&self.config, &changes, &folder) {
            Ok(backup) => {
                self.reload.taken_over();
                let before = backup.display();
                log::info!(code = "pending-applied", settings, before:%; "settings that waited for this start are in the configuration");
            }
            Err(Failure { what, .. }) => {
                log::warn!(code = "pending-kept", settings, what; "settings that waited for this start are in force, but cannot be written down");
            }
        }
    }
}

//! SIGHUP: a new configuration, whole, or the old one and the reasons.

use std::sync::Arc;

use crate::config::{self, Config};

/// The configuration to go on with, where it is a new one.
pub(super) fn reload(old: &Config) -> Option<Arc<Config>> {
    let loaded = match config::load(&old.path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems.iter() {
                log::error!(code = "config-problem", what = problem.summary(); "the configuration has a problem");
            }
            log::error!(code = "reload-failed", problems = problems.len(); "not reloaded, the old configuration stays");
            return None;
        }
    };
    for warning in loaded.warnings.iter() {
        log::warn!(code = "config-warning", what = warning.summary(); "the configuration has a weak spot");
    }
    let fixed = old.restart_changes(&loaded.config);
    if !fixed.is_empty() {
        log::error!(
            code = "reload-failed", restart = fixed.join(", ");
            "not reloaded, the old configuration stays: these change at restart only"
        );
        return None;
    }
    let (users, actions) = (loaded.config.users.len(), loaded.config.actions.len());
    log::info!(code = "reloaded", users, actions; "reloaded");
    Some(Arc::new(loaded.config))
}

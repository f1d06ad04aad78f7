//! Actions that are about keys: which id they have, and their tables where there are none.

use std::collections::BTreeSet;

use toml_edit::{Item, Table, TableLike, value};

use super::Document;
use crate::config::credential;
use crate::exit::{Exit, Failure};
use crate::wire::ActionId;
use crate::wire::enrol::EnrolSecret;

impl Document {
    /// The id of the action that is built in as this.
    pub(in crate::ctl) fn builtin(&self, builtin: &str) -> Option<ActionId> {
        let mut actions = self.entries("actions").filter(|(_, action)| is_built_in(*action, builtin));
        let id = actions.find_map(|(_, action)| action.get("id").and_then(Item::as_integer))?;
        u8::try_from(id).ok().and_then(ActionId::new)
    }

    /// Adds such an action where there is none, under this name or one like it, and with the highest id that is free.
    pub(in crate::ctl) fn set_builtin(&mut self, builtin: &str, name: &str) -> Result<(), Failure> {
        if self.entries("actions").any(|(_, action)| is_built_in(action, builtin)) {
            return Ok(());
        }
        let taken: BTreeSet<i64> = self.entries("actions").flat_map(|(_, action)| ids(action)).collect();
        let names: BTreeSet<String> = self.entries("actions").map(|(name, _)| name.to_owned()).collect();
        let full =
            || Failure::new(Exit::Config, format!("{}: every action id is taken", self.path.display()));
        let id = (1..=255).rev().find(|id| !taken.contains(id)).ok_or_else(full)?;
        let name = (1..).map(|nth| if nth == 1 { name.to_owned() } else { format!("{name}{nth}") });
        let name = name.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
        let mut action = Table::new();
        action.insert("id", value(id));
        action.insert("builtin", value(builtin));
        let actions = self.main.entry("actions").or_insert_with(|| {
            let mut actions = Table::new();
            actions.set_implicit(true);
            Item::Table(actions)
        });
        let what = format!("{}: `actions` holds no tables", self.path.display());
        let actions = actions.as_table_like_mut().ok_or_else(|| Failure::new(Exit::Config, what))?;
        actions.insert(&name, Item::Table(action));
        Ok(())
    }

    /// The server's half of exchanges, which may be `made` and in no file yet, and the action that makes them.
    pub(in crate::ctl) fn enrol(
        &self,
        made: Option<&EnrolSecret>,
    ) -> Result<Option<(EnrolSecret, ActionId)>, Failure> {
        let Some(id) = self.builtin("enrol") else { return Ok(None) };
        if let Some(made) = made {
            return Ok(Some((made.clone(), id)));
        }
        let Some(file) = self.text("enrol_key") else { return Ok(None) };
        let path = credential::place(file).unwrap_or_else(|| Ok(self.folder().join(file)));
        let path = path.map_err(|(what, hint)| {
            Failure::new(Exit::Config, format!("{}: {what}", self.path.display())).hint(hint)
        })?;
        let bytes = credential::read(&path, 1024)?;
        let secret = EnrolSecret::parse(&bytes)
            .map_err(|bad| Failure::new(Exit::Config, format!("{}: {bad}", path.display())))?;
        Ok(Some((secret, id)))
    }

    /// Names the file of the server's half of exchanges, and an action that makes them, where there is none.
    pub(in crate::ctl) fn set_enrol(&mut self, file: &str) -> Result<(), Failure> {
        if self.get("enrol_key").is_none() {
            self.main.insert("enrol_key", value(file));
        }
        self.set_builtin("enrol", "enrol")
    }
}

fn is_built_in(action: &dyn TableLike, builtin: &str) -> bool {
    action.get("builtin").and_then(Item::as_str) == Some(builtin)
}

/// The numbers that an action has.
fn ids(action: &dyn TableLike) -> impl Iterator<Item = i64> {
    ["id", "release_id"].into_iter().filter_map(|key| action.get(key).and_then(Item::as_integer))
}

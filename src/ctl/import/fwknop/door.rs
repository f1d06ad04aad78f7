//! What a stanza opens: a door of nftables, or one of two scripts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use toml_edit::InlineTable;
use zeroize::Zeroizing;

use super::access::{Setting, Stanza};
use super::ports::{self, Port};
use super::{Moving, command};
use crate::config::files::check_program;
use crate::config::show_duration;
use crate::ctl::import::draft::Table;
use crate::work::nft::NFT;

impl Moving {
    /// The name of the stanza's action; `None` if there can be none, which was said.
    pub(super) fn action(
        &mut self,
        stanza: &Stanza,
        ports: &BTreeSet<Port>,
        user: &mut Table,
    ) -> Option<String> {
        let first = stanza.settings.first()?;
        let command = stanza.get("CMD_CYCLE_OPEN");
        if command.is_none() && ports.is_empty() {
            self.off(first, user, "opens what the knock asks for: write OPEN_PORTS, and import again");
            return None;
        }
        let timer = if command.is_some() { "CMD_CYCLE_TIMER" } else { "FW_ACCESS_TIMEOUT" };
        let hold = self.seconds(stanza, timer, 30, user)?;
        let longest = self.seconds(stanza, "MAX_FW_TIMEOUT", 300, user)?.max(hold);
        let what = match command {
            Some(open) => {
                format!("{:?} {:?}", open.value, stanza.get("CMD_CYCLE_CLOSE").map(|close| &close.value))
            }
            None => String::new(),
        };
        let what = format!("{ports:?} {hold:?} {longest:?} {what}");
        if let Some(name) = self.known.get(&what) {
            return Some(name.clone());
        }
        let wanted = if command.is_some() { "cycle".to_owned() } else { ports::name(ports) };
        let name = self.action_names.take(&wanted);
        let mut table = Table::of("actions", &name);
        let id = self.actions.len().saturating_add(1);
        if id > 255 {
            self.off(first, user, "there are 255 actions at most");
            return None;
        }
        table.put("id", i64::try_from(id).ok()?);
        match command {
            Some(open) => self.cycle(stanza, open, &name, ports, &mut table, user)?,
            None if check_program(Path::new(NFT)).is_err() => {
                self.off(first, user, format!("needs {NFT}: install nftables, and import again"));
                return None;
            }
            None => {
                let mut nft = InlineTable::new();
                for (key, value) in [("family", "inet"), ("table", "siglatch"), ("set", &name)] {
                    nft.insert(key, value.into());
                }
                table.put("nft", nft);
                self.doors.insert(name.clone(), ports.clone());
            }
        }
        if command.is_none() || stanza.get("CMD_CYCLE_CLOSE").is_some_and(|close| close.value != "NONE") {
            table.put("hold", show_duration(hold));
            table.put("max_hold", show_duration(longest));
        }
        self.known.insert(what, name.clone());
        self.actions.push(table);
        Some(name)
    }

    /// Scripts that run the commands.
    fn cycle(
        &mut self,
        stanza: &Stanza,
        open: &Setting,
        name: &str,
        ports: &BTreeSet<Port>,
        table: &mut Table,
        user: &mut Table,
    ) -> Option<()> {
        let mut all = ports.iter();
        let port = all.next().copied().filter(|_| all.next().is_none());
        let close = stanza.get("CMD_CYCLE_CLOSE").filter(|close| close.value != "NONE");
        let mut scripts = Vec::new();
        for (key, what, setting) in [("run", "open", Some(open)), ("undo", "close", close)] {
            let Some(setting) = setting else { continue };
            match command::script(&setting.value, &format!("{} of {}", setting.key, setting.place), port) {
                Ok(script) => scripts.push((key, format!("actions/{name}-{what}"), script)),
                Err(what) => {
                    self.off(setting, user, what);
                    return None;
                }
            }
        }
        for (key, file, script) in scripts {
            table.list(key, [self.draft.dir().join(&file).to_str()?]);
            self.draft.file(&file, Zeroizing::new(script.into_bytes()), 0o755);
        }
        Some(())
    }

    /// A number of seconds; `None` if it is none, which is said.
    fn seconds(&mut self, stanza: &Stanza, key: &str, default: u64, user: &mut Table) -> Option<Duration> {
        let Some(setting) = stanza.get(key) else {
            return Some(Duration::from_secs(default));
        };
        match setting.value.parse().ok().filter(|seconds| *seconds != 0) {
            Some(seconds) if seconds > HOLD_MAX => {
                self.left(setting, "a door is held for 30 days at most");
                Some(Duration::from_secs(HOLD_MAX))
            }
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => {
                self.off(setting, user, "takes a number of seconds");
                None
            }
        }
    }
}

/// 30 days.
const HOLD_MAX: u64 = 30 * 86_400;

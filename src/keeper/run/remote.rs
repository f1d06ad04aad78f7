//! What administrators ask from afar, by a knock: built-in actions, answered in the receipt.

use super::Keeper;
use super::granted::Asked;
use crate::clock::Now;
use crate::config::change::Change;
use crate::config::resolved::{Enabled, Remote};
use crate::config::show_duration;
use crate::control::{How, Reply, Set};
use crate::keeper::reload::{Act, Asker, Who, Wish};
use crate::wire::KnockId;

impl Keeper {
    /// Does it, or has it done.
    pub(super) fn remote(&mut self, now: Now, asked: Asked) {
        let Asked { knock, user, what, argument } = asked;
        let enabled = |value: bool| self.enabled(&argument, value);
        let wish = match what {
            Remote::Status => {
                let line = self.in_a_line(now);
                return self.tell(now, knock, &line);
            }
            Remote::Version => return self.tell(now, knock, env!("CARGO_PKG_VERSION")),
            Remote::ListUsers => return self.tell(now, knock, &self.users()),
            Remote::Reload => Ok(Wish::Reload),
            Remote::EnableUser => enabled(true),
            Remote::DisableUser => enabled(false),
        };
        // No administrator has such a name.
        let act = Act {
            admin: format!("user {}", user.name),
            what: format!("{what:?} {argument}, by knock {knock}"),
        };
        let asker = Asker { who: Who::Knock(knock), act: Some(act) };
        self.tell_act(&asker);
        match wish {
            Ok(wish) => self.reload.begin(now, &self.config, Some(asker), wish),
            Err(why) => self.replied(now, asker, &Reply::Failed(why)),
        }
    }

    /// What became of something that took time.
    pub(super) fn told(&mut self, now: Now, knock: KnockId, reply: &Reply) {
        let text = match reply {
            Reply::Failed(why) => {
                let reply = self.receipts.failed(now, knock, why);
                return self.answer(reply);
            }
            Reply::Reloaded { users, actions, .. } => format!("reloaded: users: {users}, actions: {actions}"),
            Reply::Set(taken) => {
                taken.iter().map(|taken| format!("{}, until siglatchd ends", taken.change)).collect()
            }
            Reply::Status(_)
            | Reply::Revoked(_)
            | Reply::Webhooks(_)
            | Reply::Explained(_)
            | Reply::Refused(_) => "done".to_owned(),
        };
        self.tell(now, knock, &text);
    }

    /// The last word on a knock that the daemon itself has served.
    pub(super) fn tell(&mut self, now: Now, knock: KnockId, text: &str) {
        let reply = self.receipts.served(now, knock, 0, text);
        self.answer(reply);
    }

    fn enabled(&self, user: &str, value: bool) -> Result<Wish, String> {
        if !self.config.users.values().any(|other| other.name == user) {
            return Err(format!("there is no user {user:?}"));
        }
        let change = Change { key: format!("users.{user}.enabled"), value: Some(value.to_string()) };
        Ok(Wish::Set(Set { changes: vec![change], how: How::Apply }))
    }

    fn in_a_line(&mut self, now: Now) -> String {
        let status = self.status(now);
        let refused = status.counts.refused.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let warnings: Vec<&str> = status.warnings.iter().map(|warning| warning.code.as_str()).collect();
        let up = show_duration(std::time::Duration::from_secs(status.up));
        format!(
            "{}, up {up}; ran {}, refused {refused}; leases {}, scripts {}; warnings: {}",
            status.version,
            status.counts.ran,
            status.doors.leases.len(),
            status.scripts.running,
            if warnings.is_empty() { "none".to_owned() } else { warnings.join(" ") },
        )
    }

    /// As many as a receipt has room for.
    fn users(&self) -> String {
        let users = self.config.users.values();
        let names: Vec<String> = users
            .map(|user| match user.enabled {
                Enabled::Yes => user.name.clone(),
                Enabled::No => format!("{} (off)", user.name),
            })
            .collect();
        format!("{}: {}", names.len(), names.join(", "))
    }
}

//! What is said of webhooks.

use super::Report;
use crate::work::hooks::{Happening, Note};

impl Report {
    /// What became of a webhook.
    pub(in crate::keeper) fn hook(&self, note: &Note) {
        let Note { id: knock, user, action, what } = note;
        let user = user.as_deref().unwrap_or("-");
        match what {
            Happening::Sent => {
                log::info!(code = "webhook-sent", knock:%, user, action; "webhook delivered");
            }
            Happening::Retry(again, why) => {
                let again = format!("{}s", again.as_secs());
                log::info!(code = "webhook-retry", knock:%, user, action, again, why; "webhook not delivered, it is tried again");
            }
            Happening::Failed(why) => {
                log::warn!(code = "webhook-failed", knock:%, user, action, why; "webhook not delivered, it is kept");
            }
            Happening::Lost(lost) => {
                log::warn!(code = "webhook-lost", knock:%, user, action, lost; "too many webhooks: the oldest is thrown away");
            }
        }
    }
}

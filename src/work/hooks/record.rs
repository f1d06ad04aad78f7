//! What is known of a webhook, as JSON: what it tells, and how far that got.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::KnockId;

/// What a receiver is told: the body of the POST. docs/webhook.md is its contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Told {
    /// What came of a knock.
    Knock(Facts),
    /// How far the audit trail is signed.
    Head(HeadFacts),
}

/// Of a knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Of the knock, and of the delivery.
    pub id: KnockId,
    /// When it was over, Unix seconds; while its script runs: when that began.
    pub time: u64,
    /// The server's id.
    pub server: Option<String>,
    /// Who knocked.
    pub user: String,
    /// For what.
    pub action: String,
    /// Where from; `::ffff:` folded.
    pub source: IpAddr,
    /// Of a door: the address that it is for, if that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_for: Option<IpAddr>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Of a door: until when its user holds it, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadFacts {
    /// Of the delivery: the first 8 bytes of the head's hash.
    pub id: KnockId,
    /// When it was signed, Unix seconds.
    pub time: u64,
    /// The server's id.
    pub server: Option<String>,
    /// `SEQ:HASH`, as `siglatchctl audit verify --head` takes it.
    pub head: String,
    /// The Ed25519 key that it is signed with, 64 hex digits.
    pub key: String,
}

/// What came of a knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The script ended by itself.
    Exited {
        /// With this code, 0 to 255.
        code: i32,
    },
    /// The script was ended.
    Signaled {
        /// By this signal.
        signal: i32,
    },
    /// The script was ended because its time was up.
    TimedOut,
    /// The script could not be started.
    NotStarted,
    /// Nobody knows how the script ended: siglatchd was killed before it could hear of it.
    Unknown,
    /// Nothing ran: the door is open or opens already.
    Held,
    /// Nothing ran: it ended its user's lease.
    Released,
    /// Nothing ran: there was no lease to end.
    NothingToRelease,
    /// Nothing ran: siglatchd does this action itself.
    Answered,
}

/// A webhook as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it tells.
    pub facts: Told,
    /// How often it did not get through.
    pub attempts: u32,
    /// Where it is.
    pub state: State,
    /// Why it did not get through last.
    pub why: Option<String>,
}

/// Where a webhook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its action runs.
    Running,
    /// It is tried, again at this time (Unix seconds).
    Pending(u64),
    /// It is tried no more, unless somebody asks.
    Failed,
}

impl Record {
    /// Reads what [`Record::write`] wrote.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn parse(text: &str) -> Result<Record, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// As the store keeps it.
    pub fn write(&self) -> String {
        json(self)
    }
}

impl Told {
    /// Of the delivery.
    pub fn id(&self) -> KnockId {
        match self {
            Told::Knock(facts) => facts.id,
            Told::Head(facts) => facts.id,
        }
    }

    /// Unix seconds.
    pub fn time(&self) -> u64 {
        match self {
            Told::Knock(facts) => facts.time,
            Told::Head(facts) => facts.time,
        }
    }

    /// Whose webhook it is: an action's name, or [`AUDIT`].
    pub fn owner(&self) -> &str {
        match self {
            Told::Knock(facts) => &facts.action,
            Told::Head(_) => AUDIT,
        }
    }

    /// Who knocked, if somebody did.
    pub fn user(&self) -> Option<&str> {
        match self {
            Told::Knock(facts) => Some(&facts.user),
            Told::Head(_) => None,
        }
    }

    /// What is sent: the same bytes each time.
    pub fn body(&self) -> String {
        json(self)
    }
}

/// The owner of what the audit trail tells: no action has such a name.
pub const AUDIT: &str = "[audit]";

/// No map has a key that is no text, and nothing here fails by itself.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(outcome: Outcome, until: Option<u64>) -> Facts {
        Facts {
            id: KnockId([0xab; 8]),
            time: 1_700_000_000,
            server: Some("07".repeat(16)),
            user: "alice".to_owned(),
            action: "ssh".to_owned(),
            source: "192.0.2.7".parse().unwrap(),
            opens_for: None,
            outcome,
            until,
        }
    }

    #[test]
    fn the_body_is_what_is_documented_and_reads_back() {
        let cases = [
            (Outcome::Exited { code: 3 }, r#""outcome":"exited","code":3"#),
            (Outcome::Signaled { signal: 9 }, r#""outcome":"signaled","signal":9"#),
            (Outcome::TimedOut, r#""outcome":"timed-out""#),
            (Outcome::NotStarted, r#""outcome":"not-started""#),
            (Outcome::Unknown, r#""outcome":"unknown""#),
            (Outcome::Held, r#""outcome":"held""#),
            (Outcome::Released, r#""outcome":"released""#),
            (Outcome::NothingToRelease, r#""outcome":"nothing-to-release""#),
            (Outcome::Answered, r#""outcome":"answered""#),
        ];
        let document = include_str!("../../../docs/webhook.md");
        for (outcome, text) in cases {
            let facts = Told::Knock(facts(outcome, None));
            let head = r#"{"id":"abababababababab","time":1700000000,"server":"07070707070707070707070707070707","user":"alice","action":"ssh","source":"192.0.2.7","#;
            assert_eq!(facts.body(), format!("{head}{text}}}"));
            assert_eq!(serde_json::from_str::<Told>(&facts.body()).unwrap(), facts);
            let (_, name) = text.split_once(':').unwrap();
            let name = name.split(',').next().unwrap();
            assert!(document.contains(name), "{name} is not documented");
        }
        let facts_for = Facts { opens_for: Some([192, 0, 2, 9].into()), ..facts(Outcome::Held, None) };
        let body = Told::Knock(facts_for).body();
        assert!(
            body.ends_with(r#""source":"192.0.2.7","opens_for":"192.0.2.9","outcome":"held"}"#),
            "{body}"
        );
        let body = Told::Knock(facts(Outcome::Held, Some(1_700_003_600))).body();
        assert!(body.ends_with(r#""outcome":"held","until":1700003600}"#), "{body}");
    }

    #[test]
    fn the_documented_examples_are_bodies() {
        let document = include_str!("../../../docs/webhook.md");
        let mut kinds = Vec::new();
        for example in document.lines().filter(|line| line.starts_with("{\"id\":")) {
            let told: Told = serde_json::from_str(example).unwrap();
            assert_eq!(told.body(), example);
            kinds.push(told.user().is_some());
        }
        assert_eq!(kinds, [true, false]);
    }

    #[test]
    fn a_record_reads_back_and_nonsense_does_not() {
        for state in [State::Running, State::Pending(7), State::Failed] {
            let why = Some("no \"route\"".to_owned());
            let record = Record {
                facts: Told::Knock(facts(Outcome::Exited { code: 0 }, Some(5))),
                attempts: 2,
                state,
                why,
            };
            assert_eq!(Record::parse(&record.write()).unwrap(), record);
        }
        for text in ["", "{}", "null", "[[[["] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}

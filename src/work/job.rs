//! A grant, made into what is executed: program, arguments, environment, standard input.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::leases::{Renewing, Undoing};
use crate::config::resolved::{Arg, Args, Door, Program, RunAs, Stdin};
use crate::config::{Action, User};
use crate::judge::Grant;
use crate::store::Used;
use crate::wire::{Bound, KnockId};

/// What is to be executed. Made from a [`Grant`], or from what was recorded of one, and from nothing else; keeps the
/// configuration it was granted under over a reload.
pub struct Job {
    whose: Whose,
    exec: Exec,
    stdin: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Job {
    /// Without what it reads, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("whose", &self.whose).field("exec", &self.exec).finish_non_exhaustive()
    }
}

/// What a job is there for.
#[derive(Clone, Debug)]
pub enum Whose {
    /// A knock.
    Knock(Arc<About>),
    /// The end of a door.
    Undo(Arc<Undoing>),
    /// A webhook: this program itself, as its sender.
    Hook(KnockId),
    /// A door of nftables that is to close at another time.
    Renewal(Arc<Renewing>),
}

/// Whose job it is, for the log.
#[derive(Debug)]
pub struct About {
    /// Names the knock.
    pub knock: KnockId,
    /// Who knocked.
    pub user: Arc<User>,
    /// What runs.
    pub action: Arc<Action>,
    /// Where from; `::ffff:` folded.
    pub source: SocketAddr,
    /// Whom a door is opened for.
    pub opens_for: IpAddr,
    /// What the knock was bound to.
    pub bound: Bound,
    /// What was counted for it.
    pub used: Option<Used>,
}

/// A process to be: all of it that outlives the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// As whom it runs; as the daemon if not told.
    pub run_as: Option<RunAs>,
    /// Until it is told to end (TERM).
    pub timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Bytes of output that go to the log.
    pub max_output: usize,
}

impl From<Grant> for About {
    fn from(grant: Grant) -> About {
        About {
            knock: grant.knock,
            user: grant.user,
            action: grant.action,
            source: grant.source,
            opens_for: grant.opens_for,
            bound: grant.bound,
            used: grant.used,
        }
    }
}

impl Whose {
    /// The knock, if it is one's.
    pub fn knock(&self) -> Option<&Arc<About>> {
        match self {
            Whose::Knock(about) => Some(about),
            Whose::Undo(_) | Whose::Renewal(_) | Whose::Hook(_) => None,
        }
    }
}

impl From<Grant> for Job {
    fn from(grant: Grant) -> Job {
        let exec = Exec::of(&grant, &grant.action.run);
        Job::new(grant, exec).1
    }
}

impl Job {
    /// What opens a door, and what closes it: of the same arguments and environment, with SIGLATCH_LEASE_ID in both.
    pub fn of_door(grant: Grant, door: &Door) -> (Arc<About>, Job, Exec) {
        let lease = ("SIGLATCH_LEASE_ID", grant.knock.to_string());
        let run = Exec::of(&grant, &grant.action.run).with([lease.clone()]);
        let undo = Exec::of(&grant, &door.undo).with([lease]);
        let (about, job) = Job::new(grant, run);
        (about, job, undo)
    }

    /// What closes a door, this time.
    pub fn undo(undoing: Undoing, recorded: &Exec, stdin: Option<Vec<u8>>) -> Job {
        let exec = recorded.clone().with([
            ("SIGLATCH_ATTEMPT", undoing.attempt.to_string()),
            ("SIGLATCH_LEASE_REASON", undoing.reason.to_string()),
        ]);
        Job { whose: Whose::Undo(Arc::new(undoing)), exec, stdin: stdin.map(Zeroizing::new) }
    }

    /// What opens a door of nftables anew, for another time. The same program closes it.
    pub fn renewal(renewing: Renewing, recorded: &Exec, batch: Vec<u8>) -> Job {
        Job {
            whose: Whose::Renewal(Arc::new(renewing)),
            exec: recorded.clone(),
            stdin: Some(Zeroizing::new(batch)),
        }
    }

    /// The same, with this to read.
    pub(super) fn reading(self, stdin: Vec<u8>) -> Job {
        Job { stdin: Some(Zeroizing::new(stdin)), ..self }
    }

    /// What sends a webhook, as `run_as`: this program with `flag`, in an empty environment. It reads `delivery`, and ends by itself
    /// before `timeout`.
    pub fn sender(
        knock: KnockId,
        flag: &str,
        delivery: Zeroizing<Vec<u8>>,
        run_as: Option<RunAs>,
        timeout: Duration,
    ) -> Job {
        let exec = Exec {
            program: PathBuf::from("/proc/self/exe"),
            args: vec![flag.to_owned()],
            env: Vec::new(),
            run_as,
            timeout,
            grace: Duration::ZERO,
            max_output: SENDER_OUTPUT,
        };
        Job { whose: Whose::Hook(knock), exec, stdin: Some(delivery) }
    }

    fn new(grant: Grant, exec: Exec) -> (Arc<About>, Job) {
        let stdin = match grant.action.stdin {
            Stdin::Null => None,
            Stdin::Payload => Some(Zeroizing::new(grant.payload.clone())),
        };
        let about = Arc::new(About::from(grant));
        (Arc::clone(&about), Job { whose: Whose::Knock(about), exec, stdin })
    }

    /// Whose it is.
    pub fn whose(&self) -> &Whose {
        &self.whose
    }

    /// The action that limits how many of it run at once; `None`: no action does.
    pub fn limited_by(&self) -> Option<&Action> {
        match &self.whose {
            Whose::Knock(about) => Some(&about.action),
            Whose::Undo(_) | Whose::Renewal(_) | Whose::Hook(_) => None,
        }
    }

    /// What holds for its process.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// Absolute.
    pub fn program(&self) -> &Path {
        &self.exec.program
    }

    /// The arguments behind the program's name.
    pub fn args(&self) -> &[String] {
        &self.exec.args
    }

    /// The whole environment, each name once.
    pub fn env(&self) -> &[(String, String)] {
        &self.exec.env
    }

    /// What it reads: a payload of 0 to 199 bytes, a batch for nft, or a delivery of some KiB. `None`: /dev/null.
    pub fn stdin(&self) -> Option<&[u8]> {
        self.stdin.as_ref().map(|bytes| bytes.as_slice())
    }
}

impl Exec {
    fn of(grant: &Grant, program: &Program) -> Exec {
        let payload_base64 = STANDARD.encode(&grant.payload);
        Exec {
            program: program.path.clone(),
            args: args(grant, program, &payload_base64),
            env: env(grant, payload_base64),
            run_as: grant.action.run_as,
            timeout: grant.action.timeout,
            grace: grant.action.grace,
            max_output: grant.action.max_output,
        }
    }

    /// With more environment variables. None of them can be there: an action's own cannot begin with SIGLATCH_.
    fn with<const N: usize>(mut self, more: [(&str, String); N]) -> Exec {
        self.env.extend(more.map(|(name, value)| (name.to_owned(), value)));
        self
    }
}

/// WIRE.md "What an action script gets".
fn args(grant: &Grant, program: &Program, payload_base64: &str) -> Vec<String> {
    let one = |arg: &Arg| match arg {
        Arg::Literal(text) => text.clone(),
        Arg::Ip => grant.source.ip().to_string(),
        Arg::User => grant.user.name.clone(),
        Arg::UserId => grant.user.id.to_string(),
        Arg::Action => grant.action.name.clone(),
        Arg::ActionId => grant.action.id.to_string(),
        Arg::PayloadBase64 => payload_base64.to_owned(),
        Arg::KnockId => grant.knock.to_string(),
    };
    let encrypted = Arg::Literal("1".to_owned());
    let fixed = program.args.iter().cloned();
    match &grant.action.args {
        Args::List(list) => fixed.chain(list.iter().map(one)).collect(),
        Args::Siglatch => {
            let seven =
                [Arg::Ip, Arg::UserId, Arg::User, Arg::ActionId, Arg::Action, encrypted, Arg::PayloadBase64];
            fixed.chain(seven.iter().map(one)).collect()
        }
    }
}

fn env(grant: &Grant, payload_base64: String) -> Vec<(String, String)> {
    let set = [
        ("PATH", PATH.to_owned()),
        ("SIGLATCH_IP", grant.source.ip().to_string()),
        ("SIGLATCH_PORT", grant.source.port().to_string()),
        ("SIGLATCH_USER", grant.user.name.clone()),
        ("SIGLATCH_USER_ID", grant.user.id.to_string()),
        ("SIGLATCH_ACTION", grant.action.name.clone()),
        ("SIGLATCH_ACTION_ID", grant.action.id.to_string()),
        ("SIGLATCH_PAYLOAD_BASE64", payload_base64),
        ("SIGLATCH_KNOCK_ID", grant.knock.to_string()),
        ("SIGLATCH_TIMESTAMP", grant.timestamp.to_string()),
    ];
    let named = &grant.action.env;
    let set = set.map(|(name, value)| (name.to_owned(), value)).into_iter();
    set.filter(|(name, _)| !named.contains_key(name)).chain(named.clone()).collect()
}

/// Bytes of the one line that a sender of webhooks may have to say.
const SENDER_OUTPUT: usize = 4096;

/// Where a script looks for the programs that it names: the daemon's own PATH is its starter's business.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::testing;

    #[test]
    fn a_script_gets_the_seven_siglatch_arguments_behind_its_own() {
        let mut action = testing::action(3, "open");
        action.run.args = vec!["-v".to_owned()];
        let job = testing::job(action, b"hello?>");
        assert_eq!(job.args(), ["-v", "192.0.2.7", "5", "alice", "3", "open", "1", "aGVsbG8/Pg=="]);
    }

    #[test]
    fn an_empty_payload_is_an_empty_seventh_argument() {
        let job = testing::job(testing::action(3, "open"), b"");
        assert_eq!(job.args(), ["192.0.2.7", "5", "alice", "3", "open", "1", ""]);
    }

    #[test]
    fn the_longest_payload_is_one_argument_without_line_breaks() {
        let job = testing::job(testing::action(3, "open"), &[0xff; crate::wire::PAYLOAD_MAX]);
        assert_eq!(job.args()[6], format!("{}/w==", "/".repeat(264)));
    }

    #[test]
    fn a_list_replaces_the_seven_arguments_element_by_element() {
        let mut action = testing::action(3, "open");
        action.args = Args::List(vec![
            Arg::Literal("{ip} as it stands".to_owned()),
            Arg::Ip,
            Arg::User,
            Arg::UserId,
            Arg::Action,
            Arg::ActionId,
            Arg::PayloadBase64,
            Arg::KnockId,
        ]);
        let job = testing::job(action, b"hi");
        assert_eq!(
            job.args(),
            ["{ip} as it stands", "192.0.2.7", "alice", "5", "open", "3", "aGk=", "0001020304050607"]
        );
    }

    #[test]
    fn the_environment_is_the_documented_set_then_the_actions_own() {
        let mut action = testing::action(3, "open");
        action.env.insert("TABLE".to_owned(), "web".to_owned());
        let job = testing::job(action, b"hi");
        let env: Vec<String> = job.env().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            env,
            [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "SIGLATCH_IP=192.0.2.7",
                "SIGLATCH_PORT=40000",
                "SIGLATCH_USER=alice",
                "SIGLATCH_USER_ID=5",
                "SIGLATCH_ACTION=open",
                "SIGLATCH_ACTION_ID=3",
                "SIGLATCH_PAYLOAD_BASE64=aGk=",
                "SIGLATCH_KNOCK_ID=0001020304050607",
                "SIGLATCH_TIMESTAMP=1700000000",
                "TABLE=web",
            ]
        );
    }

    #[test]
    fn what_an_action_sets_takes_the_place_of_what_is_documented() {
        let mut action = testing::action(3, "open");
        action.env.insert("PATH".to_owned(), "/opt/bin".to_owned());
        let job = testing::job(action, b"hi");
        let paths: Vec<&str> =
            job.env().iter().filter(|(name, _)| name == "PATH").map(|(_, value)| value.as_str()).collect();
        assert_eq!(paths, ["/opt/bin"]);
    }

    #[test]
    fn a_script_reads_the_payload_only_if_its_action_says_so() {
        assert_eq!(testing::job(testing::action(3, "open"), b"hi").stdin(), None);
        let mut action = testing::action(3, "open");
        action.stdin = Stdin::Payload;
        assert_eq!(testing::job(action, b"a\0b").stdin(), Some(&b"a\0b"[..]));
    }
}

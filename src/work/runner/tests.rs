#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mio::{Events, Interest, Poll};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use signal_hook_mio::v1_0::Signals;

use super::*;
use crate::clock::Clock;
use crate::config::Action;
use crate::config::resolved::{Args, OnBusy, RunAs, Stdin};
use crate::judge::DropReason;
use crate::work::event::How;
use crate::work::output::Stream;
use crate::work::testing;

const SIGNALS: Token = Token(0);
const FIRST: usize = 7;
const PATIENCE: Duration = Duration::from_secs(30);

/// The keeper's loop, as far as the runner is concerned.
struct Loop {
    clock: Clock,
    poll: Poll,
    signals: Signals,
    runner: Runner,
    seen: Vec<JobEvent>,
    wakes: usize,
}

impl Loop {
    fn new(max_jobs: usize) -> Loop {
        let poll = Poll::new().unwrap();
        let mut signals = Signals::new([Signal::SIGCHLD as i32]).unwrap();
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).unwrap();
        let runner = Runner::new(poll.registry().try_clone().unwrap(), FIRST, max_jobs);
        let (clock, seen, wakes) = (Clock::start(), Vec::new(), 0);
        Loop { clock, poll, signals, runner, seen, wakes }
    }

    fn start(&mut self, action: Action, payload: &[u8]) {
        self.runner.start(self.clock.now(), testing::job(action, payload));
        self.seen.extend(self.runner.events());
    }

    fn turn(&mut self) {
        let now = self.clock.now().mono;
        let wait = match (self.runner.more(), self.runner.next_deadline()) {
            (Drained::More, _) => Duration::ZERO,
            (Drained::All, deadline) => deadline.unwrap_or(PATIENCE).saturating_sub(now),
        };
        let mut events = Events::with_capacity(4);
        match self.poll.poll(&mut events, Some(wait.min(Duration::from_secs(1)))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled.unwrap(),
        }
        self.wakes += 1;
        let now = self.clock.now();
        if self.signals.pending().count() > 0 {
            self.runner.reap(now);
        }
        self.runner.due(now);
        events.iter().for_each(|event| self.runner.ready(event.token()));
        self.runner.read();
        self.seen.extend(self.runner.events());
    }

    fn until(&mut self, what: &str, done: impl Fn(&Loop) -> bool) {
        let end = self.clock.now().mono + PATIENCE;
        while !done(self) {
            assert!(self.clock.now().mono < end, "no {what}: {:?}", self.seen);
            self.turn();
        }
    }

    fn until_idle(&mut self) {
        self.until("end", |this| this.runner.is_idle());
    }

    fn lines(&self, name: &str) -> Vec<&str> {
        let mut lines = Vec::new();
        for event in &self.seen {
            if let (Happened::Line(_, text), Whose::Knock(about)) = (&event.what, &event.whose)
                && about.action.name == name
            {
                lines.push(text.as_str());
            }
        }
        lines
    }

    fn count(&self, what: impl Fn(&Happened) -> bool) -> usize {
        self.seen.iter().filter(|event| what(&event.what)).count()
    }

    fn finished(&self) -> Vec<(How, Duration)> {
        let mut ends = Vec::new();
        for event in &self.seen {
            if let Happened::Finished { how, took } = event.what {
                ends.push((how, took));
            }
        }
        ends
    }

    fn ends(&self) -> Vec<How> {
        self.finished().into_iter().map(|(how, _)| how).collect()
    }

    fn refusals(&self) -> Vec<(DropReason, String)> {
        let mut refusals = Vec::new();
        for event in &self.seen {
            if let Happened::Refused(error) = &event.what {
                refusals.push((error.reason(), error.to_string()));
            }
        }
        refusals
    }
}

/// An action that runs this text as a shell script; no file is written, so no other test's child can hold it open.
fn script(text: &str) -> Action {
    let mut action = testing::action(3, "open");
    action.run.path = PathBuf::from("/bin/sh");
    action.run.args = ["-c", text, "script"].map(str::to_owned).to_vec();
    action
}

fn program(path: &Path, args: &[&str]) -> Action {
    let mut action = testing::action(3, "open");
    action.run.path = path.to_owned();
    action.run.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    action.args = Args::List(Vec::new());
    action
}

/// Runs it to its end and returns the loop.
fn ran(action: Action, payload: &[u8]) -> Loop {
    let mut this = Loop::new(4);
    this.start(action, payload);
    this.until_idle();
    this
}

/// Starts it and returns why it was refused.
fn refused(action: Action) -> (DropReason, String) {
    let this = ran(action, b"");
    assert_eq!(this.count(|what| matches!(what, Happened::Started)), 0);
    this.refusals().remove(0)
}

fn file(folder: &Path, text: &[u8], mode: u32) -> PathBuf {
    let path = folder.join("script");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// State, parent and more of a process; empty when it is gone.
fn state(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").unwrap_or_default().1.to_owned()
}

/// Whether a process runs; a zombie does not.
fn alive(pid: &str) -> bool {
    !state(pid).is_empty() && !state(pid).starts_with('Z')
}

fn until_dead(this: &mut Loop, pid: &str) {
    this.until("death", |_| !alive(pid));
}

/// Says so where the harness does not catch it.
fn skipped(test: &str, why: &str) {
    writeln!(io::stderr(), "SKIPPED {test}: {why}").unwrap();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_script_sees_the_seven_arguments_byte_for_byte() {
    let this = ran(script(r#"printf '[%s]\n' "$@""#), b"");
    assert_eq!(this.lines("open"), ["[192.0.2.7]", "[5]", "[alice]", "[3]", "[open]", "[1]", "[]"]);
    assert_eq!(this.ends(), [How::Exited(0)]);
}

#[test]
fn a_script_sees_the_documented_environment_and_nothing_of_the_daemons() {
    assert_ne!(std::env::vars_os().count(), 0, "something that must not reach the script");
    let mut action = program(Path::new("/usr/bin/env"), &["-0"]);
    action.env.insert("TABLE".to_owned(), "a b".to_owned());
    let this = ran(action, b"hi");
    let mut env: Vec<&str> = this.lines("open")[0].split_terminator(r"\x00").collect();
    env.sort_unstable();
    assert_eq!(
        env,
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SIGLATCH_ACTION=open",
            "SIGLATCH_ACTION_ID=3",
            "SIGLATCH_IP=192.0.2.7",
            "SIGLATCH_KNOCK_ID=0001020304050607",
            "SIGLATCH_PAYLOAD_BASE64=aGk=",
            "SIGLATCH_PORT=40000",
            "SIGLATCH_TIMESTAMP=1700000000",
            "SIGLATCH_USER=alice",
            "SIGLATCH_USER_ID=5",
            "TABLE=a b",
        ]
    );
}

#[test]
fn a_script_reads_the_raw_payload_to_its_end() {
    let mut action = script("od -An -v -tx1 -w199");
    action.stdin = Stdin::Payload;
    let payload: Vec<u8> = (0..199).collect();
    let this = ran(action, &payload);
    let hex: String = payload.iter().map(|byte| format!(" {byte:02x}")).collect();
    assert_eq!(this.lines("open"), [hex]);
}

#[test]
fn a_script_that_reads_nothing_of_its_payload_disturbs_nobody() {
    let mut action = script("exec <&-; echo done");
    action.stdin = Stdin::Payload;
    assert_eq!(ran(action, &[b'x'; 199]).lines("open"), ["done"]);
    assert_eq!(ran(script("wc -c; readlink /proc/$$/fd/0"), b"unread").lines("open"), ["0", "/dev/null"]);
}

#[test]
fn a_script_starts_in_the_root_folder_leads_its_own_process_group_and_has_no_terminal() {
    let this = ran(script("pwd; read -r stat </proc/$$/stat; set -- $stat; echo $1 $5 $7"), b"");
    let lines = this.lines("open");
    assert_eq!(lines[0], "/");
    let ids: Vec<&str> = lines[1].split(' ').collect();
    assert_eq!(ids, [ids[0], ids[0], "0"]);
    assert_ne!(ids[0], nix::unistd::getpgrp().to_string());
}

#[test]
fn a_script_inherits_no_descriptor_not_even_one_that_the_daemon_was_started_with() {
    let leaked = File::open("/dev/null").unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let far = fcntl(&leaked, FcntlArg::F_DUPFD(900)).unwrap();
    assert!(far >= 900);
    let mut action = script("ls /proc/$$/fd");
    action.stdin = Stdin::Payload;
    assert_eq!(ran(action, b"hi").lines("open"), ["0", "1", "2"]);
}

#[test]
fn a_script_writes_to_pipes_that_block() {
    let this = ran(script("grep -h flags /proc/$$/fdinfo/1 /proc/$$/fdinfo/2"), b"");
    let flags = |line: &&str| i32::from_str_radix(line.rsplit("\\t").next().unwrap(), 8).unwrap();
    let flags: Vec<i32> = this.lines("open").iter().map(flags).collect();
    assert_eq!(flags.len(), 2);
    assert!(flags.iter().all(|flags| flags & OFlag::O_NONBLOCK.bits() == 0));
}

#[test]
fn a_script_starts_with_no_signal_blocked_and_sigpipe_not_ignored() {
    let blocked = SigSet::from_iter([Signal::SIGTERM, Signal::SIGUSR1]);
    blocked.thread_block().unwrap();
    let this = ran(program(Path::new("/bin/grep"), &["-E", "^Sig(Blk|Ign)", "/proc/self/status"]), b"");
    let mask = |line: &&str| u64::from_str_radix(line.rsplit("\\t").next().unwrap(), 16).unwrap();
    let masks: Vec<u64> = this.lines("open").iter().map(mask).collect();
    assert_eq!(masks.len(), 2);
    assert_eq!(masks[0], 0, "blocked");
    assert_eq!(masks[1], 0, "ignored, which SIGPIPE is here");
    assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGUSR1), "our own mask is back");
}

#[test]
fn both_outputs_come_out_line_by_line_and_the_exit_code_last() {
    let this = ran(script("echo out; echo err >&2; printf 'no newline'; exit 7"), b"");
    let on = |stream, line: &str| {
        this.count(|what| matches!(what, Happened::Line(from, text) if *from == stream && text == line))
    };
    assert_eq!((on(Stream::Stdout, "out"), on(Stream::Stdout, "no newline")), (1, 1));
    assert_eq!((on(Stream::Stderr, "err"), this.lines("open").len()), (1, 3));
    assert!(matches!(this.seen[0].what, Happened::Started));
    let last = this.seen.last().unwrap();
    assert!(matches!(last.what, Happened::Finished { how: How::Exited(7), .. }));
}

#[test]
fn a_sleeping_script_is_told_to_end_at_its_timeout() {
    let mut action = script("exec sleep 60");
    action.timeout = Duration::from_millis(100);
    let this = ran(action, b"");
    assert_eq!(this.ends(), [How::Signaled(15)]);
    assert_eq!(this.count(|what| matches!(what, Happened::TimedOut)), 1);
    assert!((Duration::from_millis(100)..PATIENCE).contains(&this.finished()[0].1));
}

#[test]
fn a_script_that_ignores_term_is_killed_with_its_children() {
    let mut action = script("trap '' TERM; sleep 60 & echo $!; sleep 60; sleep 60");
    action.timeout = Duration::from_millis(200);
    action.grace = Duration::from_millis(200);
    let mut this = ran(action, b"");
    assert_eq!(this.ends(), [How::Signaled(9)]);
    let child = this.lines("open")[0].to_owned();
    until_dead(&mut this, &child);
}

#[test]
fn no_grandchild_survives_the_timeout_even_if_the_script_itself_obeys() {
    let mut action = script("(trap '' TERM; echo $$; exec sleep 60) & echo $!; exec sleep 60");
    action.timeout = Duration::from_millis(300);
    action.grace = Duration::from_secs(60);
    let mut this = ran(action, b"");
    assert_eq!(this.ends(), [How::Signaled(15)]);
    for pid in this.lines("open").into_iter().map(str::to_owned).collect::<Vec<_>>() {
        until_dead(&mut this, &pid);
    }
}

#[test]
fn a_background_child_that_keeps_stdout_open_delays_nobody_and_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let [go, lived] = ["go", "lived"].map(|name| folder.path().join(name));
    let mut action = script("(until [ -e \"$GO\" ]; do sleep 0.02; done; echo yes >\"$LIVED\") &");
    action.env.insert("GO".to_owned(), go.to_str().unwrap().to_owned());
    action.env.insert("LIVED".to_owned(), lived.to_str().unwrap().to_owned());
    let mut this = ran(action, b"");
    assert_eq!(this.ends(), [How::Exited(0)]);
    fs::write(go, "").unwrap();
    this.until("sign of life", |_| lived.exists());
}

#[test]
fn a_flooding_script_is_bounded_and_delays_nobody() {
    let mut flood = script("exec yes flooded");
    flood.timeout = Duration::from_millis(700);
    flood.max_output = 1000;
    let mut this = Loop::new(4);
    this.start(flood, b"");
    this.until("cut", |this| this.count(|what| matches!(what, Happened::OutputCut)) == 1);
    // Left unread by a wake that had its fill; no new readiness tells of it.
    this.until("unread output", |this| this.runner.more() == Drained::More);
    let mut other = script("echo hi");
    other.id = crate::wire::ActionId::new(4).unwrap();
    other.name = "other".to_owned();
    this.start(other, b"");
    this.until("other's end", |this| !this.ends().is_empty());
    assert_eq!((this.lines("other"), this.ends()), (vec!["hi"], vec![How::Exited(0)]));
    this.until_idle();
    assert_eq!(this.ends(), [How::Exited(0), How::Signaled(15)]);
    assert_eq!(this.count(|what| matches!(what, Happened::OutputCut)), 1);
    // "flooded" and its newline: 9 bytes, charged as 16.
    assert_eq!(this.lines("open").len(), 63);
}

#[test]
fn a_script_that_printed_more_than_one_read_takes_loses_nothing() {
    let mut action = script("i=0; while [ $i -lt 3000 ]; do echo a line of some length $i; i=$((i+1)); done");
    action.max_output = 1 << 20;
    let this = ran(action, b"");
    let lines = this.lines("open");
    assert_eq!((lines.len(), lines[2999]), (3000, "a line of some length 2999"));
}

#[test]
fn a_script_that_closes_its_outputs_early_is_waited_for_without_spinning() {
    let this = ran(script("exec >&- 2>&-; sleep 0.3; exit 3"), b"");
    assert_eq!(this.ends(), [How::Exited(3)]);
    // Other tests' children wake this loop too.
    assert!(this.wakes < 1000, "{}", this.wakes);
}

#[test]
fn a_death_by_signal_is_told_from_an_exit() {
    assert_eq!(ran(script("kill -9 $$"), b"").ends(), [How::Signaled(9)]);
    assert_eq!(ran(script("exit 137"), b"").ends(), [How::Exited(137)]);
    assert_eq!(
        ran(script("exec perl -e 'kill 40, $$; sleep 9'"), b"").ends(),
        [How::Signaled(40)],
        "real-time"
    );
}

#[test]
fn a_script_that_others_may_write_since_it_was_loaded_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), b"#!/bin/sh\necho hi\n", 0o775);
    let (reason, text) = refused(program(&path, &[]));
    assert_eq!(reason, DropReason::StartFailed);
    assert!(text.contains("is writable by its group") && text.contains("chmod g-w"), "{text}");
}

#[test]
fn a_script_in_a_folder_that_others_may_write_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), b"#!/bin/sh\necho hi\n", 0o755);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (reason, text) = refused(program(&path, &[]));
    assert_eq!(reason, DropReason::StartFailed);
    assert!(text.contains("is writable by its group and others"), "{text}");
}

#[test]
fn a_missing_script_is_refused_and_the_next_one_runs() {
    let mut this = Loop::new(1);
    this.start(program(Path::new("/nonexistent/script"), &[]), b"");
    assert_eq!(this.refusals()[0].0, DropReason::StartFailed);
    this.start(script("echo hi"), b"");
    this.until_idle();
    assert_eq!(this.ends(), [How::Exited(0)]);
}

#[test]
fn no_shell_guesses_what_a_file_without_an_interpreter_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), b"echo hi\n", 0o755);
    for action in [program(&path, &[]), program(&file(folder.path(), b"", 0o755), &[])] {
        let (reason, text) = refused(action);
        assert_eq!(reason, DropReason::StartFailed);
        assert!(text.contains("begin it with a line like #!/bin/sh"), "{text}");
    }
}

#[test]
fn a_file_that_the_kernel_cannot_execute_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = refused(program(&file(folder.path(), b"\x7fELF and nothing", 0o755), &[]));
    assert!(text.contains("cannot start: Exec format error"), "{text}");
    let (_, text) = refused(program(&file(folder.path(), b"#!/nonexistent/sh\n", 0o755), &[]));
    assert!(text.contains("the interpreter that its first line names is not there"), "{text}");
    let path = file(folder.path(), b"#!/bin/sh\n", 0o755);
    let _writer = OpenOptions::new().append(true).open(&path).unwrap();
    let (reason, text) = refused(program(&path, &[]));
    assert_eq!(reason, DropReason::StartFailed);
    assert!(text.contains("somebody has it open for writing"), "{text}");
}

#[test]
fn a_nul_in_an_argument_is_an_error_and_not_a_shorter_argument() {
    let (reason, _) = refused(program(Path::new("/bin/echo"), &["a\0b"]));
    assert_eq!(reason, DropReason::StartFailed);
}

#[test]
fn two_hundred_scripts_leave_no_zombie_and_no_descriptor() {
    let before = descriptors();
    let mut this = Loop::new(10);
    for _ in 0..200 {
        let mut action = script("echo $$");
        action.max_running = 5;
        action.on_busy = OnBusy::Queue(200);
        action.stdin = Stdin::Payload;
        this.start(action, b"hi");
        assert!(this.runner.running() <= 5);
    }
    assert_eq!((this.runner.running(), this.runner.jobs.waiting()), (5, 195));
    this.until_idle();
    assert_eq!(this.ends(), [How::Exited(0); 200]);
    let pids = this.lines("open");
    assert_eq!(pids.len(), 200);
    let me = std::process::id().to_string();
    let zombie = |pid: &&&str| state(pid).starts_with('Z') && state(pid).split(' ').nth(1) == Some(&me);
    assert_eq!(pids.iter().filter(zombie).count(), 0);
    // Other tests open some meanwhile, but not two for each of 200.
    assert!(descriptors() < before + 200, "{before} before, {} after", descriptors());
}

#[test]
fn a_stop_refuses_what_waits_and_lets_what_runs_finish() {
    let mut this = Loop::new(1);
    let mut action = script("sleep 0.2; echo done");
    action.on_busy = OnBusy::Queue(1);
    this.start(action.clone(), b"");
    this.start(action.clone(), b"");
    this.runner.stop();
    this.start(action, b"");
    let reasons: Vec<DropReason> = this.refusals().iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, [DropReason::Stopping, DropReason::Stopping]);
    this.until_idle();
    assert_eq!((this.lines("open"), this.ends()), (vec!["done"], vec![How::Exited(0)]));
}

#[test]
fn a_reload_that_makes_room_starts_what_waited() {
    let mut this = Loop::new(0);
    let mut action = script("echo hi");
    action.on_busy = OnBusy::Queue(1);
    this.start(action, b"");
    assert!(matches!(this.seen[0].what, Happened::Queued));
    this.runner.reload(this.clock.now(), 1, |_| Ok(()));
    this.until_idle();
    assert_eq!(this.lines("open"), ["hi"]);
}

#[test]
fn what_still_runs_when_the_runner_is_dropped_is_killed() {
    let mut this = Loop::new(1);
    this.start(script("echo $$; exec sleep 60"), b"");
    this.until("line", |this| !this.lines("open").is_empty());
    let pid = this.lines("open")[0].to_owned();
    assert!(alive(&pid));
    let mut other = Loop::new(1);
    drop(this);
    until_dead(&mut other, &pid);
}

#[test]
fn a_script_runs_as_told_without_supplementary_groups() {
    if !nix::unistd::geteuid().is_root() {
        skipped("a_script_runs_as_told_without_supplementary_groups", "needs root");
        return;
    }
    let mut action = script("grep -E '^(Uid|Gid|Groups)' /proc/self/status; printf '[%s]\n' \"$7\"; cat");
    action.run_as = Some(RunAs { uid: 12_345, gid: 23_456 });
    action.stdin = Stdin::Payload;
    let this = ran(action, b"hi");
    assert_eq!(
        this.lines("open"),
        [
            r"Uid:\t12345\t12345\t12345\t12345",
            r"Gid:\t23456\t23456\t23456\t23456",
            r"Groups:\t ",
            "[aGk=]",
            "hi",
        ]
    );
}

#[test]
fn a_script_that_runs_as_another_user_cannot_become_root_again() {
    if !nix::unistd::geteuid().is_root() {
        skipped("a_script_that_runs_as_another_user_cannot_become_root_again", "needs root");
        return;
    }
    let text = "grep -cE '^Cap(Inh|Prm|Eff|Amb):.0+$' /proc/self/status;
        exec perl -e '$> = 0; $< = 0; $) = \"0 0\"; $( = 0; print \"$< $>\\n$(\\n$)\\n\"'";
    let mut action = script(text);
    action.run_as = Some(RunAs { uid: 12_345, gid: 23_456 });
    assert_eq!(ran(action, b"").lines("open"), ["4", "12345 12345", "23456", "23456"]);
    assert!(!nix::sys::prctl::get_dumpable().unwrap(), "the memory that they shared");
}

#[test]
fn a_script_that_its_user_may_not_execute_is_refused_with_that_reason() {
    if !nix::unistd::geteuid().is_root() {
        skipped("a_script_that_its_user_may_not_execute_is_refused_with_that_reason", "needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut action = program(&file(folder.path(), b"#!/bin/sh\n", 0o700), &[]);
    action.run_as = Some(RunAs { uid: 12_345, gid: 23_456 });
    let (reason, text) = refused(action);
    assert_eq!(reason, DropReason::StartFailed);
    assert!(text.contains("the user it runs as may not execute it"), "{text}");
}

#[test]
fn a_user_that_the_daemon_may_not_become_is_a_refused_start() {
    if nix::unistd::geteuid().is_root() {
        skipped("a_user_that_the_daemon_may_not_become_is_a_refused_start", "needs a plain user");
        return;
    }
    let mut action = script("echo hi");
    action.run_as = Some(RunAs { uid: 12_345, gid: 23_456 });
    let (reason, text) = refused(action);
    assert_eq!(reason, DropReason::StartFailed);
    assert!(text.contains("only root can run it"), "{text}");
}

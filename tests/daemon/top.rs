//! `siglatchctl top` on a real terminal: what it shows, what its keys do, and what it leaves behind.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siglatch::wire::Binding;

use crate::common::{Site, children, knock, state, until};

/// A terminal of its own, with a shell in it.
struct Terminal<'a> {
    site: &'a Site,
    /// Its server's, which needs a moment to go.
    socket: String,
}

impl Terminal<'_> {
    /// 80 columns, 24 rows.
    fn open(site: &Site) -> Terminal<'_> {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let socket = format!("tmux{}", OPENED.fetch_add(1, Ordering::Relaxed));
        let terminal = Terminal { site, socket };
        terminal.tmux(&[
            "new-session",
            "-d",
            "-s",
            SESSION,
            "-x",
            "80",
            "-y",
            "24",
            "PS1='ready> ' exec /bin/sh -i",
        ]);
        terminal.shows("ready>");
        terminal
    }

    /// With a live view on it, that has had an answer.
    fn with_top(site: &Site) -> Terminal<'_> {
        let terminal = Terminal::open(site);
        terminal.types(&[&Terminal::command_line(site), "Enter"]);
        terminal.shows("q quit");
        terminal
    }

    fn command_line(site: &Site) -> String {
        let (top, config) = (env!("CARGO_BIN_EXE_siglatchctl"), site.path("siglatchd.toml"));
        format!("{top} top --config {}; echo ended $?", config.display())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.site.path(&self.socket)).args(["-f", "/dev/null"]);
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        command
    }

    fn tmux(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command().args(args).output().unwrap();
        assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn types(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", SESSION][..], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-t", SESSION, "-p"])
    }

    #[track_caller]
    fn shows(&self, text: &str) -> String {
        self.waits(text, |screen| screen.contains(text))
    }

    #[track_caller]
    fn waits(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.screen();
                fits(&last).then_some(())
            });
        }));
        assert!(found.is_ok(), "{what}:\n{last}");
        last
    }

    /// The view is gone, with this exit code, and the terminal as it was.
    #[track_caller]
    fn is_clean(&self, code: i32) {
        let screen = self.shows(&format!("ended {code}"));
        assert!(!screen.contains("REASON"), "{screen}");
        let flags = self.tmux(&[
            "display-message",
            "-t",
            SESSION,
            "-p",
            "#{alternate_on} #{cursor_flag} #{mouse_any_flag}",
        ]);
        assert_eq!(flags.trim(), "0 1 0");
        self.types(&["stty -a", "Enter"]);
        let stty = self.shows("icanon");
        for raw in ["-icanon", "-echo ", "-isig", "-opost", "-icrnl"] {
            assert!(!stty.contains(raw), "{raw}: {stty}");
        }
    }

    /// The process of the view.
    fn top(&self) -> Pid {
        let shell =
            self.tmux(&["display-message", "-t", SESSION, "-p", "#{pane_pid}"]).trim().parse().unwrap();
        Pid::from_raw(until("the view", || children(shell).first().copied()))
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        drop(self.command().arg("kill-server").output());
    }
}

const SESSION: &str = "top";

#[test]
fn who_holds_a_door_is_seen_live_and_loses_it_once_that_is_confirmed() {
    let site = Site::new().with_door("1h", "");
    let mut daemon = site.start();
    let terminal = Terminal::with_top(&site);
    terminal.shows("leases: none");
    terminal.shows("refused: nothing");
    daemon.send(&site.datagram());
    daemon.send(&site.sealed(&knock(9, b""), Binding::Server(site.server_id)));
    let screen =
        terminal.waits("both", |screen| screen.contains("leases: 1") && screen.contains("action-unknown"));
    for part in [
        " up ",
        "serving on 127.0.0.1:",
        "2 came, 1 ran",
        "stamped  0.0/s opened, 0 waiting",
        "BECAME",
        "s        ran ",
        "LEFT*",
        "alice ",
        " 59m",
    ] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert!(
        screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );

    terminal.types(&["/", "nobody"]);
    terminal.shows("leases: none");
    terminal.types(&["Escape"]);
    terminal.shows("leases: 1");
    terminal.types(&["x"]);
    terminal.shows("end the lease of alice on door for 127.0.0.1? y/n");
    terminal.types(&["n"]);
    terminal.shows("q quit");
    assert_eq!(site.said().len(), 1);
    terminal.types(&["x"]);
    terminal.shows("y/n");
    terminal.types(&["y"]);
    terminal.shows("1 lease revoked");
    terminal.shows("leases: none");
    daemon.wait("undo", |line| line.contains("code=undo-finished"));
    assert_eq!(site.said().last().unwrap(), "undo 127.0.0.1 alice revoked 1");
    terminal.types(&["q"]);
    terminal.is_clean(0);
    daemon.stop();
}

#[test]
fn it_takes_whatever_size_the_terminal_gets() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let terminal = Terminal::with_top(&site);
    for (width, height) in [("120", "40"), ("40", "12"), ("10", "3"), ("80", "24")] {
        terminal.tmux(&["resize-window", "-t", SESSION, "-x", width, "-y", height]);
        let rows: usize = height.parse().unwrap();
        let last = |screen: &str| {
            let lines: Vec<&str> = screen.lines().collect();
            lines.len() == rows
                && lines.first().unwrap().contains("siglatchd")
                && lines.last().unwrap().contains("q quit")
        };
        terminal.waits(&format!("{width}x{height}"), last);
    }
    terminal.types(&["C-c"]);
    terminal.is_clean(0);
    daemon.stop();
}

#[test]
fn a_daemon_that_hangs_or_goes_is_shown_and_one_that_comes_back_is_seen() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let terminal = Terminal::with_top(&site);
    daemon.signal(Signal::SIGSTOP);
    terminal.shows("NO ANSWER for 4s: it does not answer");
    terminal.types(&["Tab", "s"]);
    terminal.shows("MIN/s*");
    daemon.signal(Signal::SIGCONT);
    terminal.waits("an answer", |screen| !screen.contains("NO ANSWER"));
    daemon.stop();
    terminal.shows("NO ANSWER for ");
    terminal.shows("cannot ask siglatchd at ");
    let daemon = site.start();
    terminal.waits("the next", |screen| screen.contains(", up ") && screen.contains("serving"));
    daemon.signal(Signal::SIGSTOP);
    terminal.types(&["q"]);
    terminal.is_clean(0);
    daemon.signal(Signal::SIGCONT);
    daemon.stop();
}

#[test]
fn it_leaves_the_terminal_clean_when_it_is_told_to_end() {
    let site = Site::new().with_run();
    let daemon = site.start();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let terminal = Terminal::with_top(&site);
        kill(terminal.top(), signal).unwrap();
        terminal.is_clean(0);
    }
    daemon.stop();
}

#[test]
fn it_ends_with_its_terminal_even_if_it_was_started_to_stay() {
    let site = Site::new().with_run();
    let daemon = site.start();
    for trap in ["trap '' HUP", "true"] {
        let terminal = Terminal::open(&site);
        terminal.types(&[&format!("{trap}; {}", Terminal::command_line(&site)), "Enter"]);
        terminal.shows("q quit");
        let top = terminal.top().as_raw();
        drop(terminal);
        until("its end", || state(top).is_none_or(|state| state == 'Z').then_some(()));
    }
    daemon.stop();
}

#[test]
fn who_may_not_look_and_who_has_no_terminal_is_told_so_in_plain_words() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    let output = command.args(["top", "--config"]).arg(site.path("siglatchd.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this needs a terminal"));
    daemon.stop();
    let terminal = Terminal::open(&site);
    terminal.types(&[&Terminal::command_line(&site), "Enter"]);
    let screen = terminal.shows("ended 75");
    assert!(screen.contains("cannot ask siglatchd at"), "{screen}");
}

//! Log lines: to standard error, as text for people or as JSON for machines, or to systemd's journal.
//!
//! A line is a message for people, a stable code for machines, and fields. `RUST_LOG` overrides the configured level.

mod form;
mod journal;

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use env_logger::{Builder, Target};
use log::kv::Value;
use log::{Level, LevelFilter, Record};

use self::form::Form;
use crate::config::resolved::{Log, LogFormat};

/// Starts logging; once.
///
/// # Errors
///
/// No thread can be started.
pub(super) fn start(log: Log) -> io::Result<()> {
    let (sender, lines) = sync_channel(LINES);
    let (sink, missing) = Sink::open(log.format);
    let form = sink.form();
    let writer = move || write_lines(&lines, &sink);
    std::thread::Builder::new().name("log".to_owned()).spawn(writer)?;
    let sender = WRITER.get_or_init(|| sender).clone();

    let mut builder = Builder::new();
    builder.target(Target::Pipe(Box::new(Lines(sender))));
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_module("siglatch", LevelFilter::Trace),
    };
    builder.format(move |out, record| out.write_all(&form.line(record)));
    builder.init();
    level(log.level);
    if let Some(error) = missing {
        log::warn!(code = "journal-missing", error:%; "the journal cannot be reached, the log goes to standard error");
    }
    Ok(())
}

/// Waits until what was said is written, but not long: nobody may be reading.
pub(super) fn finish() {
    let Some(writer) = WRITER.get() else { return };
    let (done, written) = sync_channel(1);
    if writer.try_send(Message::Tell(done)).is_ok() {
        match written.recv_timeout(PATIENCE) {
            // Not written in time: whoever reads has stopped reading.
            Ok(()) | Err(_) => {}
        }
    }
}

/// Whether what can be missed must be, so that there is room for what nobody may wash out of the log.
pub(super) fn is_crowded() -> bool {
    WAITING.load(Ordering::Relaxed) >= LINES / 2
}

/// A line that was not worth its room; the next line that is written tells how many.
pub(super) fn lose() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// Changes the configured level.
pub(super) fn level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}

/// Standard error, written by a thread of its own: a reader that has stopped reading holds up no knock.
struct Lines(SyncSender<Message>);

enum Message {
    /// To be written.
    Line(Vec<u8>),
    /// To be answered when all before it is written.
    Tell(SyncSender<()>),
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Counted first: the writer must not take off what is not on it yet.
        WAITING.fetch_add(1, Ordering::Relaxed);
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            lose();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines go.
enum Sink {
    Text,
    Json,
    Journal(UnixDatagram),
}

impl Sink {
    /// As configured; text where there is no journal, and why.
    fn open(format: LogFormat) -> (Sink, Option<io::Error>) {
        match format {
            LogFormat::Text => return (Sink::Text, None),
            LogFormat::Json => return (Sink::Json, None),
            LogFormat::Auto if !journal::has_stderr() => return (Sink::Text, None),
            LogFormat::Auto | LogFormat::Journal => {}
        }
        match journal::connect() {
            Ok(socket) => (Sink::Journal(socket), None),
            Err(error) => (Sink::Text, Some(error)),
        }
    }

    fn form(&self) -> Form {
        match self {
            Sink::Text => Form::Text,
            Sink::Json => Form::Json,
            Sink::Journal(_) => Form::Journal,
        }
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::Text | Sink::Json => io::stderr().write_all(line),
            Sink::Journal(journal) => journal.send(line).map(drop),
        }
    }
}

fn write_lines(lines: &Receiver<Message>, sink: &Sink) {
    while let Ok(message) = lines.recv() {
        match message {
            // A closed standard error takes the words, not the daemon.
            Message::Line(line) => {
                sink.write(&line).unwrap_or_else(|_| lose());
                WAITING.fetch_sub(1, Ordering::Relaxed);
            }
            Message::Tell(done) => drop(done.try_send(())),
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 && sink.write(&lost_line(sink.form(), lost)).is_err() {
            LOST.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

fn lost_line(form: Form, lost: u64) -> Vec<u8> {
    let fields = [("code", Value::from("log-lost")), ("lost", Value::from(lost))];
    let args = format_args!("nobody read the log, lines are lost");
    form.line(&Record::builder().level(Level::Warn).args(args).key_values(&fields).build())
}

static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Lines thrown away since the last time that was told.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that wait to be written.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Lines that may wait to be written, at most some 8 MiB.
const LINES: usize = 4096;

/// For the last lines at the end.
const PATIENCE: Duration = Duration::from_secs(1);

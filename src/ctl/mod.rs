//! `siglatchctl`, the administrator's tool.
//!
//! In: a command line and the daemon's configuration. Out: files that appear whole or not at all, tables, an exit
//! code. Never: a question but at a terminal, an overwritten file without `--force`.
//!
//! # Security considerations
//!
//! What is made here is secret from its first byte: private files are created with mode 0600, never narrowed later. A
//! name becomes a file name and a script's argument, so it is a [`crate::wire::invite::Name`].

mod admin;
mod args;
mod ask;
mod audit;
#[cfg(feature = "backup")]
mod backup;
mod doctor;
mod document;
mod explain;
mod exporter;
mod firewall;
mod history;
mod import;
mod init;
mod key;
mod leases;
mod list;
mod server_key;
mod status;
mod steer;
#[cfg(feature = "top")]
mod top;
mod totp;
mod usage;
mod user;
mod webhooks;

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::config::resolved::Enabled;
use crate::config::{self, files, files::Existing};
use crate::control::Ban;
use crate::exit::{self, Exit, Failure};
use args::audit::Audit;
use args::import::Import;
use args::{Action, Admin, Cli, Command, Firewall, Key, RevokeKey, Rotate, User, Webhooks};

/// Runs `siglatchctl` with these arguments, the program's name first.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match exit::parse::<Cli>(args) {
        Ok(cli) => exit::end(match cli.command {
            Command::Init(args) => init::init(&args),
            Command::Status(args) => status::status(&args),
            #[cfg(feature = "top")]
            Command::Top(args) => top::top(args.way),
            Command::Reload(way) => steer::reload(&way),
            Command::Set(args) => steer::set(&args),
            Command::Apply(args) => steer::apply(&args),
            Command::Diff(way) => steer::diff(&way),
            Command::Pending(args) => steer::pending(&args),
            Command::Enable(args) => steer::switch(&args, Enabled::Yes),
            Command::Disable(args) => steer::switch(&args, Enabled::No),
            Command::Ban(args) => steer::ban(&args, Ban::On),
            Command::Unban(args) => steer::ban(&args, Ban::Off),
            Command::TestKnock(args) => explain::test_knock(&args),
            Command::Admin(Admin::Key(args)) => admin::key(&args),
            Command::Admin(Admin::Add(args)) => admin::add(&args),
            Command::Admin(Admin::List(at)) => admin::list(&at),
            Command::Version(way) => status::version(&way),
            Command::User(User::Add(args)) => user::add(&args),
            Command::User(User::Show(args)) => user::show(&args),
            Command::User(User::Enable(one)) => steer::switch_user(one, Enabled::Yes),
            Command::User(User::Disable(one)) => steer::switch_user(one, Enabled::No),
            Command::User(User::Remove(args)) => user::remove(&args),
            Command::User(User::Totp(args)) => totp::totp(&args),
            Command::User(User::List(at)) => list::users(&at.config),
            Command::Key(Key::Rotate(Rotate::User(args))) => key::rotate(&args),
            Command::Key(Key::Rotate(Rotate::Server(args))) => server_key::rotate(&args),
            Command::Key(Key::Revoke(RevokeKey::User(args))) => key::revoke(&args),
            Command::Action(Action::List(at)) => list::actions(&at.config),
            Command::Leases(args) => leases::leases(&args),
            Command::Revoke(args) => leases::revoke(&args),
            Command::Usage(args) => usage::usage(&args),
            Command::History(args) => history::history(&args),
            Command::Explain(args) => explain::explain(&args),
            Command::Audit(Audit::Verify(args)) => audit::verify(&args),
            Command::Audit(Audit::Show(args)) => audit::show(&args),
            Command::Audit(Audit::Export(args)) => audit::export(&args),
            Command::Audit(Audit::Head(at)) => audit::head(&at.config),
            Command::Audit(Audit::Key(at)) => audit::key(&at.config),
            Command::Webhooks(Webhooks::Failed(args)) => webhooks::failed(&args),
            Command::Webhooks(Webhooks::Pending(args)) => webhooks::pending(&args),
            Command::Webhooks(Webhooks::Retry(args)) => webhooks::retry(&args),
            Command::Webhooks(Webhooks::Drop(args)) => webhooks::forget(&args),
            Command::Check(args) => config::check(args.config.as_ref().unwrap_or(&args.file)),
            Command::Firewall(Firewall::Snippet(args)) => firewall::snippet(&args),
            Command::Firewall(Firewall::Try(args)) => firewall::trial(&args),
            Command::Firewall(Firewall::Watch(args)) => firewall::watch(&args),
            Command::Doctor(args) => doctor::doctor(&args.way),
            Command::Import(Import::Siglatch(args)) => import::siglatch(&args),
            Command::Import(Import::Fwknop(args)) => import::fwknop(&args),
            #[cfg(feature = "backup")]
            Command::Backup(args) => backup::backup(&args),
            #[cfg(feature = "backup")]
            Command::Restore(args) => backup::restore(&args),
            Command::Exporter(args) => exporter::exporter(args),
        }),
        Err(code) => code,
    }
}

/// Its command line.
#[cfg(feature = "pages")]
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Files of a command that is not done: taken away again, unless [`Begun::done`] is reached.
#[derive(Default)]
struct Begun {
    files: Vec<PathBuf>,
}

impl Begun {
    /// Writes a file that goes again with the others. One that was replaced stays: what it was is lost anyway.
    fn write(&mut self, path: PathBuf, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), Failure> {
        files::write(&path, bytes, mode, existing)?;
        match existing {
            Existing::Keep => self.files.push(path),
            Existing::Replace => {}
        }
        Ok(())
    }

    /// Everything is in place.
    fn done(mut self) {
        self.files.clear();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        for file in self.files.iter().rev() {
            // The failure that led here is the one to report.
            drop(std::fs::remove_file(file));
        }
    }
}

/// Fresh from the operating system's generator.
fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Failure::new(Exit::Internal, format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// Writes what is secret and shown once: a reader that left has not seen it, unlike elsewhere that is a failure.
fn print(what: &str, text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| {
        let what = format!("cannot write {what} to standard output: {error}");
        Failure::new(Exit::TryAgain, what).hint("nothing was changed")
    })
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}

/// Makes a folder that is not there, with this mode whatever the umask.
fn make_folder(folder: &Path, mode: u32) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(mode)))
        .map_err(|error| cannot("make", folder, &error))
}

fn cannot(verb: &str, folder: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot {verb} the folder {}: {error}", folder.display());
    let failure = Failure::new(Exit::of_io(error), what);
    if error.kind() == io::ErrorKind::PermissionDenied {
        failure.hint("run this as root, or name another folder")
    } else {
        failure
    }
}

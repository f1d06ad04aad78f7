//! `siglatchctl init`: all that a new server needs.

use rsa::rand_core::OsRng;
use std::path::{Path, PathBuf};

use toml_edit::{Array, Value};
use zeroize::Zeroizing;

use super::admin;
use super::args::{FOLDER, Init};
use super::{Begun, cannot, internal, make_folder, random};
#[cfg(feature = "sqlite")]
use crate::clock;
use crate::config::{self, files::Existing};
use crate::exit::{self, Exit, Failure};
#[cfg(feature = "sqlite")]
use crate::store::{Boot, SqliteStore};
use crate::wire::enrol::EnrolSecret;
use crate::wire::{PrivateKey, ServerId};

/// Runs the command. Everything is looked at and made in memory first, then written, the configuration last.
pub(super) fn init(args: &Init) -> Result<(), Failure> {
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    make_folder(&args.dir, 0o755)?;
    let dir = args.dir.canonicalize().map_err(|error| cannot("use", &args.dir, &error))?;
    let (keys, actions) = (dir.join("keys"), dir.join("actions"));
    let state_dir = match &args.state_dir {
        Some(state_dir) => {
            std::path::absolute(state_dir).map_err(|error| cannot("use", state_dir, &error))?
        }
        None if args.dir == Path::new(FOLDER) => PathBuf::from("/var/lib/siglatch"),
        None => PathBuf::from("state"),
    };

    let runtime_dir = if args.dir == Path::new(FOLDER) { "/run/siglatch" } else { "run" };
    let private = PrivateKey::generate(&mut OsRng).map_err(|error| internal(&error))?;
    let private_pem = private.to_pem().map_err(|error| internal(&error))?;
    let public_pem = private.public().to_pem().map_err(|error| internal(&error))?;
    let hello = actions.join("hello");
    let admin = admin::make()?;
    let config = configuration(args, &state_dir, Path::new(runtime_dir), &hello)?;
    let public = admin::public_of(&admin).ok_or_else(|| internal(&"a key that is none was made"))?;
    let config = config.replace("@admin_key@", &public.to_string());
    let enrol = Zeroizing::new(format!("{}\n", *EnrolSecret::new(*Zeroizing::new(random()?)).to_hex()));
    let files: [(PathBuf, &[u8], u32); 6] = [
        (dir.join("enrol.key"), enrol.as_bytes(), 0o600),
        (dir.join(admin::FILE), admin.as_bytes(), 0o600),
        (dir.join("server.key.pem"), private_pem.as_bytes(), 0o600),
        (dir.join("server.pub.pem"), public_pem.as_bytes(), 0o644),
        (hello, include_bytes!("hello.sh"), 0o755),
        (dir.join("siglatchd.toml"), config.as_bytes(), 0o600),
    ];
    if existing == Existing::Keep {
        let there = files.iter().filter(|(path, ..)| path.symlink_metadata().is_ok());
        let there: Vec<String> = there.map(|(path, ..)| path.display().to_string()).collect();
        if !there.is_empty() {
            let what = format!("there already: {}", there.join(", "));
            return Err(Failure::new(Exit::Config, what).hint(
                "nothing was changed; name another folder, or replace key, id and configuration with --force",
            ));
        }
    }

    make_folder(&keys, 0o700)?;
    make_folder(&actions, 0o755)?;
    make_state(&dir.join(&state_dir))?;
    let mut begun = Begun::default();
    for (path, bytes, mode) in files {
        begun.write(path, bytes, mode, existing)?;
    }
    begun.done();

    tell(args, &dir)
}

/// What was made, and what comes next.
fn tell(args: &Init, dir: &Path) -> Result<(), Failure> {
    let dir = dir.display();
    let at =
        if args.dir == Path::new(FOLDER) { String::new() } else { format!(" --config {dir}/siglatchd.toml") };
    let start = if args.dir == Path::new(FOLDER) && Path::new(UNIT).exists() {
        "systemctl start siglatchd".to_owned()
    } else {
        format!("siglatchd{at}")
    };
    let user = config::missing_listener().map_or(String::new(), |command| format!("next: {command}\n"));
    let host = if args.host.is_some() { "" } else { " --host NAME" };
    exit::say(&format!(
        "made {dir}: siglatchd.toml, server.key.pem, server.pub.pem, enrol.key, admin.key, actions/hello\n\
         {user}next: siglatchctl user add alice --action hello{host}{at}\n\
         then: {start}\n"
    ))
}

/// The template, filled in.
fn configuration(args: &Init, state_dir: &Path, runtime_dir: &Path, hello: &Path) -> Result<String, Failure> {
    let listen: Array = args.listen.iter().map(ToString::to_string).collect();
    let public_host = match &args.host {
        Some(host) => format!("public_host = \"{host}\""),
        None => "# public_host = \"vpn.example.org\"".to_owned(),
    };
    Ok(TEMPLATE
        .replace("@listen@", &listen.to_string())
        .replace("@server_id@", &ServerId(random()?).to_string())
        .replace("@public_host@", &public_host)
        .replace("@state_dir@", &toml_path(state_dir)?)
        .replace("@runtime_dir@", &toml_path(runtime_dir)?)
        .replace("@hello@", &toml_path(hello)?))
}

fn toml_path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| {
        let what = format!("{}: is not UTF-8, a configuration cannot name it", path.display());
        Failure::new(Exit::Usage, what)
    })?;
    Ok(Value::from(text).to_string())
}

/// The folder of accepted knocks, with a store that refuses none: no knock is older than the keys that are made here. An
/// old store is kept, and so is what it remembers.
fn make_state(folder: &Path) -> Result<(), Failure> {
    make_folder(folder, 0o700)?;
    #[cfg(feature = "sqlite")]
    {
        let wall = clock::wall().as_secs();
        SqliteStore::create(folder, wall, &Boot::read(wall))?;
    }
    Ok(())
}

/// Where the package puts the service.
const UNIT: &str = "/usr/lib/systemd/system/siglatchd.service";

const TEMPLATE: &str = include_str!("siglatchd.toml");

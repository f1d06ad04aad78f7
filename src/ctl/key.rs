//! `siglatchctl key`: keys that are to be others, or nobody's.

use super::args::{KeyRevoke, KeyRotate};
use super::document::{Document, lock};
use super::user::{enrol, have_read, in_force, known};
use super::{Begun, internal, random};
use crate::config::files::{self, Existing};
use crate::exit::{self, Exit, Failure};
use crate::wire::HmacKey;

/// Gives a user leave to exchange his key.
pub(super) fn rotate(args: &KeyRotate) -> Result<(), Failure> {
    let _lock = lock(&args.way.config)?;
    let mut document = Document::open(&args.way.config)?;
    known(&document, &args.name)?;
    let new = enrol::ensure(&mut document)?;
    let until = enrol::until(args.overlap)?;
    document.set_of_user(&args.name, "rotate_until", until.clone());
    let mut begun = Begun::default();
    new.iter().try_for_each(|new| new.write(&mut begun))?;
    document.save()?;
    begun.done();
    let name = &args.name;
    let until = until.to_string();
    exit::say(&format!("{name} may exchange his key until {}: siglatch key rotate PROFILE\n", until.trim()))?;
    if new.is_some() {
        exit::say(
            "invites that were made before this hold nothing to do that with: siglatchctl user add --force --once\n",
        )?;
    }
    let known = have_read(&args.way, &document)?;
    exit::say(&format!("{known}\n"))
}

/// Ends a user's key: nobody has the one in its place.
pub(super) fn revoke(args: &KeyRevoke) -> Result<(), Failure> {
    let _lock = lock(&args.way.config)?;
    let document = Document::open(&args.way.config)?;
    known(&document, &args.name)?;
    let name = args.name.as_str();
    let others = |file| document.key_files("hmac_key").any(|(user, other)| user != name && other == file);
    let files: Vec<_> = document.key_files("hmac_key").filter(|(user, _)| *user == name).collect();
    if files.is_empty() {
        let what =
            format!("the key of {name} is a credential of siglatchd's service, which is not replaced here");
        return Err(Failure::new(Exit::Config, what).hint(format!(
            "siglatchctl user disable {name}; then give the service another, and restart it"
        )));
    }
    for (_, file) in files {
        if others(file.clone()) {
            exit::note(&format!("warning: {} is another user's key, too: his ends with it", file.display()));
        }
        let key = HmacKey::new(random()?).map_err(|error| internal(&error))?;
        let text = zeroize::Zeroizing::new(format!("{}\n", *key.to_hex()));
        files::write(&file, text.as_bytes(), 0o600, Existing::Replace)?;
    }
    exit::say(&format!(
        "the key of {name} is nobody's now; another: siglatchctl user add {name} --force --action ...\n"
    ))?;
    in_force(&args.way, &document, &args.name)
}

//! `siglatchctl user totp`: a second factor, shown once.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use zeroize::Zeroizing;

use super::args::UserTotp;
use super::document::{Document, Standing, lock};
use super::{Begun, internal, make_folder, print, random};
use crate::config::TotpKey;
use crate::config::files::Existing;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::Name;

/// Runs the command. The key is shown before it is written: one that nobody saw is never in force.
pub(super) fn totp(args: &UserTotp) -> Result<(), Failure> {
    let _lock = lock(&args.at.config)?;
    let mut document = Document::open(&args.at.config)?;
    let (name, config) = (&args.name, document.path().display().to_string());
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    match document.user(name) {
        Standing::Here => {}
        Standing::Elsewhere => {
            let what =
                format!("{config}: the user {name} stands in an included file, which is not edited here");
            return Err(Failure::new(Exit::Config, what).hint("name that file's main one, or move him there"));
        }
        Standing::Nowhere => {
            let what = format!("{config}: there is no user {name}");
            return Err(Failure::new(Exit::Usage, what).hint("siglatchctl user list names them"));
        }
    }
    let file = format!("keys/{name}.totp");
    let path = document.folder().join(&file);
    let kept = || {
        let what = format!("{config}: {name} has a TOTP key already");
        Failure::new(Exit::Config, what).hint("nothing was changed; --force replaces it")
    };
    document.set_totp_key(name, &file, existing).ok_or_else(kept)?;
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(kept());
    }

    let secret = Zeroizing::new(random::<{ TotpKey::LEN }>()?);
    let key = TotpKey::new(*secret).map_err(|error| internal(&error))?;
    let base32 = key.to_base32();
    let issuer = document.text("public_host").and_then(Name::parse);
    let uri = uri(issuer.as_ref().map_or("siglatch", Name::as_str), name, &base32);
    let code = QrCode::new(uri.as_bytes()).map_err(|error| internal(&error))?;
    // Light on dark, as terminals are; cameras read both.
    let picture = code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let picture: Zeroizing<String> = Zeroizing::new(picture);
    print("the key", &Zeroizing::new(format!("{}\n{}\n", *picture, *uri)))?;

    let unseen = |failure: Failure| failure.hint("the key that was shown is not in force");
    let text = Zeroizing::new(format!("{}\n", *base32));
    let mut begun = Begun::default();
    make_folder(&document.folder().join("keys"), 0o700).map_err(unseen)?;
    begun.write(path, text.as_bytes(), 0o600, existing).map_err(unseen)?;
    document.save().map_err(unseen)?;
    begun.done();
    exit::note(&format!(
        "this is shown once: have {name} read it with an authenticator now\n\
         next: totp = true in the actions that are to ask for it, then: siglatchctl reload"
    ));
    Ok(())
}

/// As authenticators read it. Neither name needs escaping.
fn uri(issuer: &str, name: &Name, base32: &str) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "otpauth://totp/{issuer}:{name}?secret={base32}&issuer={issuer}&algorithm=SHA1&digits=6&period={}",
        TotpKey::STEP
    ))
}

//! Who can open a backup: age, by passphrase or by key.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use zeroize::Zeroizing;

use crate::config::files::{self, Secrecy};
use crate::ctl::args::backup::{How, Whom};
use crate::exit::{Exit, Failure};

/// What encrypts.
pub(super) fn encryptor(whom: &Whom) -> Result<Encryptor, Failure> {
    if let Some(file) = &whom.passphrase_file {
        let passphrase = passphrase(file)?;
        if passphrase.chars().count() < PASSPHRASE_MIN {
            let what = format!("a passphrase for all keys has at least {PASSPHRASE_MIN} characters");
            return Err(Failure::new(Exit::Usage, what).hint("six words taken at random are good"));
        }
        return Ok(Encryptor::with_user_passphrase(SecretString::from(passphrase.as_str().to_owned())));
    }
    let parse = |text: &String| {
        text.parse::<x25519::Recipient>().map_err(|error| {
            let what = format!("{text:?} is no recipient of age: {error}");
            Failure::new(Exit::Usage, what).hint("age-keygen prints one: age1...")
        })
    };
    if whom.recipient.len() > RECIPIENTS_MAX {
        let what = format!("a backup has at most {RECIPIENTS_MAX} recipients");
        return Err(Failure::new(Exit::Usage, what).hint("give one key to several people"));
    }
    let recipients = whom.recipient.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as &dyn Recipient))
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// A backup's file, and its length in bytes. Not a FIFO or a device, which may have nothing to say, or no end.
pub(super) fn file(path: &Path) -> Result<(File, u64), Failure> {
    let fail = |error: io::Error| {
        Failure::new(Exit::of_io(&error), format!("{}: cannot be read: {error}", path.display()))
    };
    let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(fail)?;
    let meta = opened.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(Failure::new(Exit::Config, format!("{}: is not a regular file", path.display())));
    }
    Ok((opened, meta.len()))
}

/// Opens a backup; what comes out is authentic as far as it is read. With the file's length.
pub(super) fn open(path: &Path, how: &How) -> Result<(impl Read, u64), Failure> {
    let wrong = |what: String| Failure::new(Exit::Config, format!("{}: {what}", path.display()));
    let (opened, len) = file(path)?;
    let opened = small_header(opened).map_err(|error| wrong(format!("is no backup: {error}")))?;
    let decryptor = Decryptor::new(BufReader::new(opened))
        .map_err(|error| wrong(format!("is no file of age: {error}")))?;
    let identity: Box<dyn Identity> = match (&how.passphrase_file, &how.identity) {
        (Some(passphrase_file), _) => {
            let passphrase = passphrase(passphrase_file)?;
            Box::new(scrypt::Identity::new(SecretString::from(passphrase.as_str().to_owned())))
        }
        (None, Some(identity)) => Box::new(key(identity)?),
        (None, None) => return Err(Failure::new(Exit::Usage, "what opens it?")),
    };
    let opened = decryptor.decrypt(std::iter::once(&*identity)).map_err(|error| {
        let other = matches!(
            error,
            DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed
        );
        wrong(if other { "is encrypted to another key or passphrase".to_owned() } else { error.to_string() })
    })?;
    Ok((opened, len))
}

/// A header is read whole, and over again for each line: one that nobody makes is not begun.
fn small_header(mut file: File) -> io::Result<File> {
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEADER_MAX).read_to_end(&mut head)?;
    file.rewind()?;
    let full = head.len() as u64 == HEADER_MAX;
    if full && !head.windows(5).any(|end| end == b"\n--- ") {
        return Err(io::Error::other(format!("it names more than {RECIPIENTS_MAX} keys that open it")));
    }
    Ok(file)
}

/// The first secret key in a file as age-keygen writes it.
fn key(file: &Path) -> Result<x25519::Identity, Failure> {
    let bytes = files::read(file, Secrecy::Secret, 64 << 10)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let key = text.lines().find_map(|line| line.trim().parse().ok());
    key.ok_or_else(|| {
        let what = format!("{}: has no secret key of age", file.display());
        Failure::new(Exit::Config, what).hint("it has a line AGE-SECRET-KEY-1..., as age-keygen writes it")
    })
}

/// The first line.
fn passphrase(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(LINE_MAX));
    if file == Path::new("-") {
        let read = io::stdin().lock().take(LINE_MAX as u64).read_line(&mut line);
        read.map_err(|error| Failure::new(Exit::of_io(&error), format!("standard input: {error}")))?;
    } else {
        let bytes = files::read(file, Secrecy::Secret, LINE_MAX as u64)?;
        line.push_str(std::str::from_utf8(&bytes).unwrap_or_default().lines().next().unwrap_or_default());
    }
    let line = Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned());
    if line.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{}: has no passphrase in its first line", file.display()),
        ));
    }
    Ok(line)
}

/// Whom one backup is for.
const RECIPIENTS_MAX: usize = 64;

/// Bytes; a recipient takes 100 to 200.
const HEADER_MAX: u64 = 32 << 10;

/// Characters; less is guessed.
const PASSPHRASE_MIN: usize = 12;

/// Bytes of a file with a passphrase.
const LINE_MAX: usize = 1024;

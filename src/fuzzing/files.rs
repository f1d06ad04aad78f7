//! What an administrator writes: configuration text, key files.

use rsa::rand_core::OsRng;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::recorded::recorded;
use crate::config::{self, Colours, Config};
use crate::listener::opener::Opener;
use crate::wire::invite::Name;
use crate::wire::{Bound, HmacKey, PAYLOAD_MAX, PLAINTEXT_LEN, PrivateKey, PublicKey};

/// Loads as `siglatchd.toml`, in a folder with `server.key.pem`, `alice.hmac`, `bob.hmac` and `users.d/more.toml`, which
/// has the same text. What loads is valid; what doesn't is told without a control character.
pub fn config(data: &[u8]) {
    let site = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| write(&site.path().join(name), bytes);
    let key = recorded().private_key.to_pem().expect("a key that was read");
    file("server.key.pem", key.as_bytes());
    file("alice.hmac", recorded().hmac_key.to_hex().as_bytes());
    file("bob.hmac", &[7; 32]);
    file("siglatchd.toml", data);
    fs::create_dir(site.path().join("users.d")).expect("a folder");
    file("users.d/more.toml", data);
    let problems = match config::load(&site.path().join("siglatchd.toml")) {
        Ok(loaded) => {
            assert_valid(&loaded.config);
            loaded.warnings
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    for problem in problems.iter() {
        assert!(!problem.summary().contains(char::is_control), "{:?}", problem.summary());
    }
    let told = problems.render(Colours::Off);
    assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
    assert!(problems.is_empty() || !problems.render(Colours::On).is_empty());
}

/// Reads as each kind of key. What is a key survives being written and read, and does what it is for or fails in order.
pub fn keys(data: &[u8]) {
    let digits = data.iter().filter(|byte| !byte.is_ascii_whitespace());
    let hex = digits.clone().all(u8::is_ascii_hexdigit) && digits.count() == 64;
    let parsed = HmacKey::parse(data);
    assert!(parsed.is_err() || data.len() == 32 || hex);
    if let Ok(key) = parsed {
        assert_eq!(HmacKey::parse(key.to_hex().as_bytes()).as_ref(), Ok(&key));
        assert_ne!(key.bytes(), &[0; 32]);
        assert_eq!(format!("{key:?}"), "HmacKey(****)");
    }
    if let Ok(key) = PrivateKey::from_der(data) {
        private(&key);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = PrivateKey::from_pem(text) {
        private(&key);
    }
    if let Ok(key) = PublicKey::from_pem(text) {
        let pem = key.to_pem().expect("a key that was read");
        assert_eq!(PublicKey::from_pem(&pem).as_ref(), Ok(&key));
        seal(&key);
    }
}

fn private(key: &PrivateKey) {
    let again = PrivateKey::from_der(key.der()).expect("what was written");
    assert_eq!(again.public(), key.public());
    let sealed = seal(key.public());
    // An opener may be choosier than the reader: that is an error at start.
    let (Ok(openers), Some(sealed)) = (Opener::each(key.der()), sealed) else {
        return;
    };
    for (_, opener) in openers {
        // Whether it is the packet depends on primes being prime; that something comes out doesn't.
        assert_eq!(opener.open(&sealed).len(), PLAINTEXT_LEN);
    }
}

fn seal(key: &PublicKey) -> Option<Vec<u8>> {
    let sealed = key.seal(&mut OsRng, &[1; PLAINTEXT_LEN]).ok()?;
    assert_eq!(sealed.len(), key.modulus().len());
    Some(sealed)
}

fn assert_valid(config: &Config) {
    assert!((1..=16).contains(&config.listen.len()));
    assert!((1..=3600).contains(&config.freshness.as_secs()));
    assert_eq!(config.freshness.subsec_nanos(), 0);
    let binds = [config.bind]
        .into_iter()
        .chain(config.users.values().map(|user| user.bind))
        .chain(config.actions.values().map(|action| action.bind));
    assert!(config.server_id.is_some() || binds.clone().all(|bind| bind == Bound::None));
    let named = |name: &str| assert!(Name::parse(name).is_some(), "{name:?}");
    for (id, user) in &config.users {
        named(&user.name);
        assert_eq!(*id, user.id);
        let known = |id| config.actions.contains_key(id);
        assert!(user.actions.iter().all(known), "{user:?}");
    }
    for (id, action) in &config.actions {
        named(&action.name);
        assert_eq!(*id, action.id);
        assert!(action.run.path.is_absolute());
        assert!(action.max_payload <= PAYLOAD_MAX && action.max_running > 0, "{action:?}");
        let nul = |text: &String| text.contains('\0');
        assert!(!action.run.args.iter().any(nul));
        assert!(!action.env.iter().any(|(name, value)| nul(name) || nul(value) || name.contains('=')));
    }
}

fn write(path: &Path, bytes: &[u8]) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("a file");
}

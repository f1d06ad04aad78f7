//! What somebody writes to the control socket.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use toml_edit::DocumentMut;

use crate::clock::Now;
use crate::config::change::{Applied, Change, merge};
use crate::config::resolved::{Admin, Control, Role};
use crate::control::nonces::Nonces;
use crate::control::sign::{May, sign, verify};
use crate::control::{Envelope, Hello, Hex, Refused, Reply, Request, Signed, VERSION, read, write};

/// As a line nobody is taken for who he says: it is not signed. As a request, signed by an administrator, it is taken once, by who may
/// ask it, and is the same when it is written again. As a change it leaves a configuration that reads, with that value or as it was.
pub fn control(data: &[u8]) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let now = Now { mono: Duration::from_secs(1), boot: Duration::ZERO, wall: Duration::from_secs(1000) };
    let hello = Hello {
        siglatch: VERSION.to_owned(),
        version: "0".to_owned(),
        server_id: Hex([1; 16]),
        hello: Hex([2; 32]),
    };
    let control = |role| {
        let admin = Admin { public_key: key.verifying_key().to_bytes(), role };
        Control { admins: [("root".to_owned(), admin)].into(), ..Control::default() }
    };
    let mut nonces = Nonces::default();
    if verify(data, &hello, &control(Role::Admin), &mut nonces, now).is_ok() {
        let envelope: Envelope = read(data).expect("it was read");
        let signed: Signed = serde_json::from_value(envelope.signed).expect("it was read");
        assert_eq!(signed.admin, "root", "who has no key was heard");
    }
    if let Ok(reply) = read::<Reply>(data) {
        let line = write(&reply).expect("it has a form");
        assert_eq!(read::<Reply>(&line).expect("it reads"), reply);
    }
    let Ok(request) = read::<Request>(data) else { return };
    let line = write(&request).expect("it has a form");
    assert_eq!(read::<Request>(&line).expect("it reads"), request);
    let signed = Signed {
        admin: "root".to_owned(),
        nonce: Hex([3; 16]),
        at: "1000".to_owned(),
        request: request.clone(),
    };
    let line = write(&sign(&signed, &hello, &key).expect("it has a form")).expect("it has a form");
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let mut nonces = Nonces::default();
        let asked = verify(&line, &hello, &control(role), &mut nonces, now);
        let asked = asked.expect("root signed it");
        assert_eq!((asked.may == May::Yes, &asked.request), (role >= request.role(), &request), "{role}");
        assert_eq!(verify(&line, &hello, &control(role), &mut nonces, now), Err(Refused::Replayed));
    }
    if let Request::Set(set) = request {
        set.changes.iter().for_each(change);
        assert_eq!(merge(&merge(&[], &set.changes), &set.changes), merge(&[], &set.changes));
    }
}

fn change(change: &Change) {
    let before: DocumentMut = CONFIG.parse().expect("it reads");
    let mut document = before.clone();
    let applied = change.apply(&mut document);
    let after = document.to_string();
    let again: DocumentMut = after.parse().expect("a change leaves a configuration that reads");
    match applied {
        Ok(Applied::Changed) => {
            let mut document = again;
            assert_eq!(change.apply(&mut document), Ok(Applied::Same), "{change}: {after}");
            assert_eq!(document.to_string(), after);
        }
        Ok(Applied::Same | Applied::NotHere) | Err(_) => assert_eq!(after, before.to_string()),
    }
}

const CONFIG: &str = "# top
listen = [\"127.0.0.1:1\"] # here

[log]
level = \"info\" # loud

[users]
bob = { id = 2, enabled = true } # he

[users.alice]
id = 1

[actions.ssh]
id = 1
";

use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::nonces::Nonces;
use super::sign::{Asked, May, sign, verify};
use super::*;
use crate::clock::Now;
use crate::config::change::Change;
use crate::config::resolved::{Admin, Control};
use crate::wire::KnockId;

#[test]
fn what_is_asked_and_answered_is_what_is_documented() {
    let id = KnockId([0xab; 8]);
    let change =
        |value: Option<&str>| Change { key: "log.level".to_owned(), value: value.map(str::to_owned) };
    let set = |value, how| Request::Set(Set { changes: vec![change(value)], how });
    let requests = [
        (Request::Status, r#""status""#),
        (Request::Revoke(Whom::Lease(id)), r#"{"revoke":{"lease":"abababababababab"}}"#),
        (Request::Revoke(Whom::User("alice".to_owned())), r#"{"revoke":{"user":"alice"}}"#),
        (Request::Revoke(Whom::All), r#"{"revoke":"all"}"#),
        (Request::RetryWebhooks(Which::Failed), r#"{"retry-webhooks":"failed"}"#),
        (Request::DropWebhooks(Which::Hook(id)), r#"{"drop-webhooks":{"hook":"abababababababab"}}"#),
        (Request::Reload, r#""reload""#),
        (Request::DiscardPending, r#""discard-pending""#),
        (Request::Ban(Ban::On("192.0.2.0/24".to_owned())), r#"{"ban":{"on":"192.0.2.0/24"}}"#),
        (
            set(Some("\"debug\""), How::Try),
            r#"{"set":{"changes":[{"key":"log.level","value":"\"debug\""}],"how":"try"}}"#,
        ),
        (set(None, How::Apply), r#"{"set":{"changes":[{"key":"log.level","value":null}],"how":"apply"}}"#),
    ];
    for (request, line) in requests {
        assert_eq!(write(&request).unwrap(), format!("{line}\n").as_bytes());
        assert_eq!(read::<Request>(line.as_bytes()).unwrap(), request);
    }
    assert_eq!(write(&Reply::Webhooks(2)).unwrap(), b"{\"webhooks\":2}\n");
    assert_eq!(write(&Reply::Revoked(2)).unwrap(), b"{\"revoked\":2}\n");
    assert_eq!(write(&Reply::Refused(Refused::NotSigned)).unwrap(), b"{\"refused\":\"not-signed\"}\n");
    for line in
        ["", "{}", r#"{"revoke":"some"}"#, r#"{"revoke":{"lease":"ab"}}"#, r#"{"stop":"all"}"#, "[[[["]
    {
        assert!(read::<Request>(line.as_bytes()).is_err(), "{line}");
    }
}

fn now(wall: u64) -> Now {
    Now { mono: Duration::from_secs(wall), boot: Duration::ZERO, wall: Duration::from_secs(wall) }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn control(role: Role) -> Control {
    let admin = Admin { public_key: key().verifying_key().to_bytes(), role };
    Control { admins: [("root".to_owned(), admin)].into(), ..Control::default() }
}

fn hello() -> Hello {
    Hello {
        siglatch: VERSION.to_owned(),
        version: "0.1.0".to_owned(),
        server_id: Hex([1; 16]),
        hello: Hex([2; 32]),
    }
}

fn signed(nonce: u8, at: u64) -> Signed {
    Signed { admin: "root".to_owned(), nonce: Hex([nonce; 16]), at: at.to_string(), request: Request::Reload }
}

fn line(signed: &Signed, hello: &Hello) -> Vec<u8> {
    write(&sign(signed, hello, &key()).unwrap()).unwrap()
}

#[test]
fn a_request_is_taken_once_from_who_signed_it_for_this_connection_now() {
    let (control, mut nonces) = (control(Role::Operator), Nonces::default());
    let good = line(&signed(1, 1000), &hello());
    let asked = Asked { admin: "root".to_owned(), request: Request::Reload, may: May::Yes };
    let mut ask = |line: &[u8], hello: &Hello, at| verify(line, hello, &control, &mut nonces, now(at));
    assert_eq!(ask(&good, &hello(), 1000), Ok(asked));
    assert_eq!(ask(&good, &hello(), 1000), Err(Refused::Replayed));
    for hello in [Hello { hello: Hex([3; 32]), ..hello() }, Hello { server_id: Hex([9; 16]), ..hello() }] {
        assert_eq!(ask(&good, &hello, 1000), Err(Refused::NotSigned));
    }
    for (at, refused) in [(699, Some(301)), (700, None), (1300, None), (1301, Some(301))] {
        let line = line(&signed(u8::try_from(at % 251).unwrap(), at), &hello());
        assert_eq!(ask(&line, &hello(), 1000).err(), refused.map(Refused::Stale), "{at}");
    }
}

#[test]
fn every_change_of_a_signed_line_is_refused() {
    let (control, good) = (control(Role::Admin), line(&signed(1, 1000), &hello()));
    let mut taken = 0;
    for at in 0..good.len() - 1 {
        for flip in [1, 2, 0x20] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            match verify(&bad, &hello(), &control, &mut Nonces::default(), now(1000)) {
                // Digits of the signature are the same in both cases.
                Ok(_) => {
                    assert!(
                        good[at].is_ascii_alphabetic() && flip == 0x20,
                        "{}",
                        String::from_utf8_lossy(&bad)
                    );
                    taken += 1;
                }
                Err(Refused::NotSigned | Refused::Malformed(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(taken < 128, "{taken}");
}

#[test]
fn each_role_may_what_the_ones_before_it_may() {
    let set = |key: &str| {
        let change = Change { key: key.to_owned(), value: Some("1".to_owned()) };
        Request::Set(Set { changes: vec![change], how: How::Apply })
    };
    let cases = [
        (Request::Status, Role::Viewer),
        (Request::Revoke(Whom::All), Role::Operator),
        (Request::Reload, Role::Operator),
        (Request::Ban(Ban::Off("::/0".to_owned())), Role::Operator),
        (set("users.alice.enabled"), Role::Operator),
        (set("log.level"), Role::Admin),
        (set("users.alice.quota"), Role::Admin),
        (set("listen"), Role::Admin),
        (Request::DiscardPending, Role::Admin),
    ];
    for (request, least) in cases {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            let line = line(&Signed { request: request.clone(), ..signed(1, 1000) }, &hello());
            let became = verify(&line, &hello(), &control(role), &mut Nonces::default(), now(1000));
            let may = became.is_ok_and(|asked| asked.may == May::Yes);
            assert_eq!(may, role >= least, "{request:?} {role}");
        }
    }
}

#[test]
fn nonces_are_kept_until_their_requests_are_stale_and_never_less() {
    let mut nonces = Nonces::default();
    let nonce = |number: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Hex(bytes)
    };
    for number in 0..10_000 {
        assert_eq!(nonces.take(now(1000), "root", nonce(number)), Ok(()));
    }
    assert_eq!(nonces.take(now(1599), "root", nonce(10_000)), Err(Refused::TooMany));
    assert_eq!(nonces.take(now(1599), "other", nonce(0)), Ok(()), "nobody else is locked out by that");
    assert_eq!(nonces.take(now(1599), "root", nonce(0)), Err(Refused::Replayed));
    assert_eq!(nonces.take(now(1600), "root", nonce(10_000)), Ok(()));
    assert_eq!(nonces.take(now(1600), "root", nonce(0)), Ok(()), "its request is stale by now");
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/control.schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("SIGLATCH_RENEW").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == text, "SIGLATCH_RENEW=1 cargo test --lib control writes it anew");
}

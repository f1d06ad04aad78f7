use proptest::prelude::*;
use rsa::rand_core::OsRng;

use super::*;
use crate::wire::PrivateKey;
use crate::wire::enrol::{EnrolPublic, EnrolSecret};

pub(super) fn invite() -> Invite {
    let named = |name| Name::parse(name).unwrap();
    Invite {
        name: named("office"),
        host: Host::parse("vpn.example.org").unwrap(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        port: 50000,
        server_id: Some(ServerId([0x6f; 16])),
        postage: Postage::Stamped,
        answers: Answers::Receipt,
        user: named("alice.b-c_d"),
        user_id: UserId(65535),
        hmac_key: HmacKey::new([0xab; 32]).unwrap(),
        server_key: PrivateKey::generate(&mut OsRng).unwrap().public().clone(),
        key_action: ActionId::new(251),
        enrol: Some(Enrol {
            server: EnrolPublic([0xcd; 32]),
            action: ActionId::new(9).unwrap(),
            until: Until::Nothing,
            secret: None,
        }),
        actions: BTreeMap::from([
            (named("ssh"), Action { id: ActionId::new(1).unwrap(), opens: Opens::Nothing, asks: Asks::Totp }),
            (
                named("v1.2"),
                Action { id: ActionId::new(255).unwrap(), opens: Opens::Door, asks: Asks::Nothing },
            ),
        ]),
    }
}

#[test]
fn what_is_written_is_read() {
    let id = Some(ServerId([1; 16]));
    for (server_id, postage, answers) in [
        (None, Postage::Plain, Answers::Nothing),
        (id, Postage::Plain, Answers::Receipt),
        (id, Postage::Stamped, Answers::Nothing),
        (id, Postage::Stamped, Answers::Receipt),
    ] {
        let enrol = invite().enrol.filter(|_| postage == Postage::Stamped);
        let enrol = enrol.map(|enrol| Enrol {
            until: if answers == Answers::Receipt { Until::All } else { Until::Nothing },
            ..enrol
        });
        let key_action = invite().key_action.filter(|_| answers == Answers::Receipt);
        let before = Invite { server_id, postage, answers, key_action, enrol, ..invite() };
        let after = Invite::parse(&before.to_toml().unwrap()).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(before.hmac_key, after.hmac_key);
        let after = Invite::parse(&before.to_line().unwrap()).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(before.hmac_key, after.hmac_key);
    }
}

#[test]
fn an_invite_that_says_nothing_of_stamps_is_for_plain_knocks_and_nothing_of_receipts_for_silence() {
    let text = invite().to_toml().unwrap().replace("stamp = true\nreceipt = true\n", "");
    assert!(!text.contains("stamp") && !text.contains("receipt"));
    let invite = Invite::parse(&text).unwrap();
    assert_eq!((invite.postage, invite.answers), (Postage::Plain, Answers::Nothing));
}

#[test]
fn the_half_of_an_exchange_that_is_under_way_is_in_the_profile_and_in_no_line() {
    let secret = EnrolSecret::new([0x77; 32]);
    let plain = invite();
    let enrol = Enrol { secret: Some(secret.clone()), ..plain.enrol.clone().unwrap() };
    let profile = Invite { enrol: Some(enrol), ..plain.clone() };
    let read = Invite::parse(&profile.to_toml().unwrap()).unwrap();
    assert_eq!(read.enrol.unwrap().secret, Some(secret));
    assert_eq!(profile.to_line().unwrap(), plain.to_line().unwrap());
    assert!(!format!("{profile:?}").contains("7777"));
}

#[test]
fn an_action_is_a_door_only_where_the_invite_says_so() {
    let text = invite().to_toml().unwrap();
    for (from, to, opens) in [
        ("door = true", "door = true", Opens::Door),
        ("door = true", "door = false", Opens::Nothing),
        (", door = true", "", Opens::Nothing),
        ("{ id = 255, door = true }", "255", Opens::Nothing),
    ] {
        let invite = Invite::parse(&text.replace(from, to)).unwrap();
        let action = invite.actions[&Name::parse("v1.2").unwrap()];
        assert_eq!(action, Action { id: ActionId::new(255).unwrap(), opens, asks: Asks::Nothing }, "{to}");
    }
}

#[test]
fn a_wrong_invite_is_refused_with_its_key_and_a_way_to_mend_it() {
    let good = invite().to_toml().unwrap();
    let cases = [
        ("siglatch = 1", "siglatch = 2", "a newer one may read it"),
        ("siglatch = 1\n", "", "missing field `siglatch`"),
        ("port = 50000", "port = 0", "`port` is 0"),
        ("port = 50000", "port = 70000", "line 7: invalid value: integer `70000`, expected u16"),
        ("port = 50000", "port = 50000\nprot = 1", "line 8: unknown field `prot`"),
        ("port = 50000", "port = ", "line 7: "),
        ("port = 50000", "port = 50000\n\"\\u001b[31m\" = 1", "line 8: unknown field ` [31m`"),
        ("\"office\"", "\"../office\"", "`name` cannot be used"),
        ("\"office\"", "\".office\"", "`name` cannot be used"),
        ("\"office\"", "\"-office\"", "`name` cannot be used"),
        ("\"office\"", "\"off\\nice\"", "`name` cannot be used"),
        ("\"office\"", "\"\"", "`name` cannot be used"),
        ("\"alice.b-c_d\"", "\"\\u001b[2J\"", "`user` cannot be used"),
        ("\"vpn.example.org\"", "\"-oProxyCommand\"", "`host` is no host name"),
        ("\"vpn.example.org\"", "\"a b\"", "`host` is no host name"),
        ("\"192.0.2.1\"", "\"192.0.2.1.5\"", "line 6: invalid IP address syntax"),
        ("\"192.0.2.1\",", &"\"::\", ".repeat(8), "`addresses` holds more than 8"),
        ("abab\"\nserver_key", "aba\"\nserver_key", "`hmac_key` is not 64 hex digits"),
        ("6f6f\"", "6f6g\"", "`server_id` is not 32 hex digits"),
        ("stamp = true", "stamp = \"yes\"", "line 9: invalid type: string \"yes\", expected a boolean"),
        ("BEGIN PUBLIC", "BEGIN PUBLIQUE", "`server_key` cannot be used"),
        ("key_action = 251", "key_action = 0", "`key_action` holds the id 0"),
        ("\"ssh\" = { id = 1,", "\"ssh\" = { id = 0,", "`actions` holds the id 0"),
        (
            "\"ssh\" = { id = 1,",
            "\"ssh\" = { id = 256,",
            "an action is its number, 1 to 255, or { id = 1, door = true",
        ),
        ("\"ssh\" = { id = 1,", "\"ssh\" = {", "an action is its number"),
        ("totp = true", "totp = \"yes\"", "an action is its number, 1 to 255"),
        ("totp = true", "otp = true", "an action is its number, 1 to 255"),
        ("{ id = 255, door = true }", "256", "an action is its number, 1 to 255"),
        ("{ id = 255, door = true }", "0", "`actions` holds the id 0"),
        ("door = true", "dor = true", "an action is its number"),
        ("key = \"cdcd", "key = \"cdc", "`key` is not 64 hex digits"),
        ("action = 9", "action = 0", "`action` is 0: ids are 1 to 255"),
        ("once = true", "once = true\nsecret = \"77\"", "`secret` is not 64 hex digits"),
        ("once = true", "onse = true", "unknown field `onse`"),
        ("\"ssh\" =", "\"s/h\" =", "`actions` cannot be used"),
        ("\"ssh\" =", "\"ssh\" = 2\n\"ssh\" =", "duplicate key"),
    ];
    for (from, to, expected) in cases {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, *good, "{from} is there");
        let said = Invite::parse(&text).unwrap_err().to_string();
        assert!(said.contains(expected), "{to:?}: {said}");
        assert!(!said.contains("abab"), "the key is shown: {said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}

#[test]
fn a_long_invite_is_refused_unread() {
    let text = format!("{}#{}", *invite().to_toml().unwrap(), "x".repeat(16 * 1024));
    assert_eq!(Invite::parse(&text).unwrap_err(), BadInvite::TooLong);
}

#[test]
fn the_key_is_never_shown_even_where_its_line_is_wrong() {
    let text = invite().to_toml().unwrap().replace("abab\"\nserver_key", "abab\nserver_key");
    let said = Invite::parse(&text).unwrap_err().to_string();
    assert!(said.starts_with("line 13: ") && !said.contains("abab"), "{said}");
}

proptest! {
    #[test]
    fn any_text_is_an_invite_or_refused(text in "\\PC{0,200}") {
        prop_assert!(Invite::parse(&text).is_err());
    }

    #[test]
    fn a_name_is_one_file_and_one_word(text in "\\PC{0,70}|[a-z./-]{0,70}") {
        if let Some(name) = Name::parse(&text) {
            let path = std::path::Path::new(name.as_str());
            prop_assert_eq!(path.components().count(), 1);
            prop_assert_eq!(path.file_name().unwrap(), name.as_str());
            prop_assert!(!text.starts_with(['.', '-']) && text.len() <= 64);
        }
    }
}

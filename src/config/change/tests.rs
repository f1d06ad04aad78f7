use super::*;

fn applied(text: &str, key: &str, value: Option<&str>) -> (String, Applied) {
    let mut document: DocumentMut = text.parse().unwrap();
    let change = match value {
        Some(value) => Change::parse(key, value).unwrap(),
        None => Change { key: key.to_owned(), value: None },
    };
    let applied = change.apply(&mut document).unwrap();
    (document.to_string(), applied)
}

#[test]
fn a_value_is_changed_in_its_place_and_comments_stay() {
    let text = "# top\nlisten = [\"[::]:1\"] # here\n\n[users.alice]\nid = 1 # she\n";
    let cases = [
        (
            "listen",
            Some("[\"[::]:2\"]"),
            "# top\nlisten = [\"[::]:2\"] # here\n\n[users.alice]\nid = 1 # she\n",
        ),
        (
            "users.alice.enabled",
            Some("false"),
            "# top\nlisten = [\"[::]:1\"] # here\n\n[users.alice]\nid = 1 # she\nenabled = false\n",
        ),
        (
            "log.level",
            Some("debug"),
            "# top\nlisten = [\"[::]:1\"] # here\n\n[users.alice]\nid = 1 # she\n\n[log]\nlevel = \"debug\"\n",
        ),
        ("listen", None, "# top\n\n[users.alice]\nid = 1 # she\n"),
    ];
    let two = "# of a\na = 1\n# of b\nb = 2\n";
    let mut document: DocumentMut = two.parse().unwrap();
    take_out(document.as_table_mut(), "a");
    assert_eq!(document.to_string(), "# of a\n# of b\nb = 2\n");
    for (key, value, wanted) in cases {
        assert_eq!(applied(text, key, value), (wanted.to_owned(), Applied::Changed), "{key}");
    }
    assert_eq!(applied(text, "listen", Some("[\"[::]:1\"]")), (text.to_owned(), Applied::Same));
    assert_eq!(applied(text, "users.bob.enabled", Some("true")), (text.to_owned(), Applied::NotHere));
}

#[test]
fn names_with_dots_are_names() {
    let text = "[users.\"bob.smith\"]\nid = 1\n";
    let (text, applied) = applied(text, "users.bob.smith.enabled", Some("false"));
    assert_eq!(
        (text.as_str(), applied),
        ("[users.\"bob.smith\"]\nid = 1\nenabled = false\n", Applied::Changed)
    );
    let meant = Change::parse("users.bob.smith.enable", "true").unwrap_err().to_string();
    assert!(meant.contains("`users.bob.smith.enabled`"), "{meant}");
}

#[test]
fn an_operator_makes_the_log_say_more_and_never_less() {
    let role = |level: &str| Change::parse("log.level", level).unwrap().role();
    assert_eq!(["debug", "info", "trace"].map(role), [Role::Operator; 3]);
    assert_eq!(["off", "error", "warn", "'off'", "nonsense"].map(role), [Role::Admin; 5]);
}

#[test]
fn what_is_no_setting_says_what_is() {
    for (key, hint) in [
        ("log.levl", "did you mean `log.level`?"),
        ("users.alice.hmac_key", "edit the file"),
        ("actions.ssh.run", "edit the file"),
        ("users", "edit the file"),
        ("", "edit the file"),
        ("users..enabled", ""),
        ("users.alice.enabled.more", ""),
    ] {
        let bad = Change::parse(key, "1").unwrap_err().to_string();
        assert!(bad.contains(hint), "{key}: {bad}");
    }
    for value in ["[", "{", "\"", "'"] {
        assert!(matches!(Change::parse("log.level", value), Err(BadChange::NoValue { .. })), "{value}");
    }
    assert_eq!(Change::parse("log.level", "debug").unwrap().value.as_deref(), Some("\"debug\""));
    assert_eq!(Change::parse("limits.user_rate", "5").unwrap().value.as_deref(), Some("5"));
    assert_eq!(Change::parse("users.alice.quota", "20/day").unwrap().value.as_deref(), Some("\"20/day\""));
}

#[test]
fn of_two_changes_of_one_key_the_later_counts() {
    let change = |key: &str, value: &str| Change { key: key.to_owned(), value: Some(value.to_owned()) };
    let old = [change("bind", "1"), change("reply", "2")];
    let new = [change("bind", "3"), change("bind", "4")];
    assert_eq!(merge(&old, &new), [change("reply", "2"), change("bind", "4")]);
}

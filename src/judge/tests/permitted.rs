use super::*;
use crate::config::resolved::{Again, Door, Exchange, OnShutdown};
use crate::wire::Options;
use crate::wire::options::Release;

/// One thing that is wrong, and how it shows.
type Fault = (DropReason, fn(&mut Config));

/// In the order in which they are looked for.
const FAULTS: [Fault; 11] = [
    (DropReason::UserGone, |config| edit_alice(config, |alice| alice.hmac_key = key(9))),
    (DropReason::UserDisabled, |config| edit_alice(config, |alice| alice.enabled = Enabled::No)),
    (DropReason::UserExpired, |config| {
        edit_alice(config, |alice| alice.not_after = Some(Duration::from_secs(u64::from(NOON) - 1)))
    }),
    (DropReason::ActionUnknown, |config| {
        config.actions.clear();
    }),
    (DropReason::NotPermitted, |config| {
        edit_alice(config, |alice| alice.actions = vec![ActionId::new(2).unwrap()])
    }),
    (DropReason::ActionDisabled, |config| edit_action(config, |action| action.enabled = Enabled::No)),
    (DropReason::KeyExchange, |config| {
        edit_alice(config, |alice| alice.exchange = Exchange::Invites { until: Duration::MAX, then: None })
    }),
    (DropReason::Binding, |config| config.bind = Bound::Server),
    (DropReason::Source, |config| config.allow_from = nets(&["198.51.100.0/24"])),
    (DropReason::StampMissing, |config| edit_alice(config, |alice| alice.stamp = Stamp::Required)),
    (DropReason::Payload, |config| edit_action(config, |action| action.max_payload = 3)),
];

fn edit_alice(config: &mut Config, change: impl FnOnce(&mut User)) {
    *config = with_alice(config.clone(), change);
}

/// Nothing where an earlier fault took the action away.
fn edit_action(config: &mut Config, change: impl FnOnce(&mut Action)) {
    if !config.actions.is_empty() {
        *config = with_action(config.clone(), change);
    }
}

fn nets(nets: &[&str]) -> AddressList {
    AddressList(nets.iter().map(|net| net.parse().unwrap()).collect())
}

/// What becomes of alice's knock with a payload of four bytes when `config` is there as its claim comes back.
fn outcome(config: &Config) -> Result<(), DropReason> {
    let mut desk = Desk::new(self::config());
    let knock = Knock { payload: b"open", ..knock(1) };
    let claim = desk.opened(&signed(&knock, Binding::None), HOME).unwrap();
    desk.reload(config.clone());
    desk.claimed(claim).map(drop)
}

#[test]
fn each_thing_that_is_wrong_has_its_reason() {
    assert_eq!(outcome(&config()), Ok(()));
    let mut tried = 0;
    for (reason, break_it) in FAULTS {
        let mut config = config();
        break_it(&mut config);
        assert_eq!(outcome(&config), Err(reason));
        tried += 1;
    }
    let between = |reason: &&DropReason| (DropReason::UserGone..=DropReason::Payload).contains(*reason);
    // This one takes no options.
    let of_options = [DropReason::Options, DropReason::Address];
    let between = |reason: &&DropReason| between(reason) && !of_options.contains(*reason);
    assert_eq!(tried, DropReason::ALL.iter().filter(between).count());
}

#[test]
fn the_first_thing_that_is_wrong_is_told() {
    for mended in 0..FAULTS.len() {
        let mut config = config();
        for (_, break_it) in &FAULTS[mended..] {
            break_it(&mut config);
        }
        assert_eq!(outcome(&config), Err(FAULTS[mended].0), "{mended} mended");
    }
}

#[test]
fn the_strictest_of_three_bindings_counts() {
    let levels = [Bound::None, Bound::Server, Bound::Source];
    let bindings =
        [Binding::None, Binding::Server(SERVER), Binding::Source(SERVER, "192.0.2.1".parse().unwrap())];
    let mut tried = 0;
    for combination in 0..27 {
        let [server, user, action] = [1, 3, 9].map(|digit| levels[combination / digit % 3]);
        let config = with_alice(config(), |alice| alice.bind = user);
        let mut config = with_action(config, |to| to.bind = action);
        config.bind = server;
        for (bound, binding) in levels.into_iter().zip(bindings) {
            let holds = [server, user, action].iter().all(|least| bound >= *least);
            let expected = if holds { Ok(()) } else { Err(DropReason::Binding) };
            assert_eq!(
                Desk::new(config.clone()).outcome(&signed(&knock(1), binding), HOME),
                expected,
                "{bound} where server, user, action ask for {server}, {user}, {action}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 81);
}

#[test]
fn a_source_must_be_in_the_lists_of_server_user_and_action() {
    let cases: &[(&[&str], &str, bool)] = &[
        (&[], "192.0.2.1", true),
        (&[], "2001:db8::1", true),
        (&["192.0.2.0/24"], "192.0.2.0", true),
        (&["192.0.2.0/24"], "192.0.2.255", true),
        (&["192.0.2.0/24"], "::ffff:192.0.2.7", true),
        (&["192.0.2.0/24"], "192.0.3.0", false),
        (&["192.0.2.0/24"], "::ffff:192.0.3.0", false),
        (&["192.0.2.0/24"], "::192.0.2.7", false),
        (&["192.0.2.0/24"], "2001:db8::1", false),
        (&["192.0.2.1/32"], "192.0.2.1", true),
        (&["192.0.2.1/32"], "192.0.2.2", false),
        (&["0.0.0.0/0"], "255.255.255.254", true),
        (&["0.0.0.0/0"], "::1", false),
        (&["::/0"], "2001:db8::1", true),
        (&["::/0"], "192.0.2.1", false),
        (&["::/0"], "::ffff:192.0.2.1", false),
        (&["2001:db8::/33"], "2001:db8:7fff::1", true),
        (&["2001:db8::/33"], "2001:db8:8000::1", false),
        (&["2001:db8::1/128", "192.0.2.0/25"], "192.0.2.127", true),
        (&["2001:db8::1/128", "192.0.2.0/25"], "192.0.2.128", false),
        (&["2001:db8::1/128", "192.0.2.0/25"], "2001:db8::1", true),
    ];
    let mut tried = 0;
    for (list, source, allowed) in cases {
        let mut server = config();
        server.allow_from = nets(list);
        let user = with_alice(config(), |alice| alice.allow_from = nets(list));
        let action = with_action(config(), |action| action.allow_from = nets(list));
        for (place, config) in [("server", server), ("user", user), ("action", action)] {
            let from = std::net::SocketAddr::new(source.parse().unwrap(), 4000).to_string();
            let expected = if *allowed { Ok(()) } else { Err(DropReason::Source) };
            assert_eq!(
                Desk::new(config).outcome(&plain(1), &from),
                expected,
                "{source} in {list:?} of the {place}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 63);
}

#[test]
fn a_list_of_a_user_is_not_widened_by_another() {
    let config = with_alice(config(), |alice| alice.allow_from = nets(&["192.0.2.1/32"]));
    let config = with_action(config, |action| action.allow_from = nets(&["198.51.100.9/32"]));
    for from in [HOME, ELSEWHERE] {
        assert_eq!(Desk::new(config.clone()).outcome(&plain(1), from), Err(DropReason::Source));
    }
}

#[test]
fn a_payload_is_of_the_kind_and_length_that_the_action_takes() {
    use PayloadKind::{Any, Ascii, None, Utf8};
    let longest = [b'x'; 199];
    let cases: &[(PayloadKind, usize, &[u8], bool)] = &[
        (Any, 199, b"", true),
        (Any, 199, b"\0\xff\n", true),
        (Any, 199, &longest, true),
        (Any, 198, &longest, false),
        (Any, 0, b"", true),
        (Any, 0, b"x", false),
        (Ascii, 199, b"", true),
        (Ascii, 199, b" ~", true),
        (Ascii, 199, b"\x1f", false),
        (Ascii, 199, b"\x7f", false),
        (Ascii, 199, b"two\nlines", false),
        (Ascii, 199, b"\x80", false),
        (Ascii, 2, b"abc", false),
        (Utf8, 199, b"", true),
        (Utf8, 199, "\u{fc}\n\u{1f600}".as_bytes(), true),
        (Utf8, 199, b"\xc3", false),
        (Utf8, 199, b"\xc0\x80", false),
        (Utf8, 199, b"\xed\xa0\x80", false),
        (Utf8, 1, "\u{fc}".as_bytes(), false),
        (None, 199, b"", true),
        (None, 199, b"\0", false),
    ];
    let mut tried = 0;
    for (kind, max_payload, payload, takes) in cases {
        let config = with_action(config(), |action| {
            (action.payload, action.max_payload) = (*kind, *max_payload);
        });
        let knock = Knock { payload, ..knock(1) };
        let expected = if *takes { Ok(()) } else { Err(DropReason::Payload) };
        assert_eq!(
            Desk::new(config).outcome(&signed(&knock, Binding::None), HOME),
            expected,
            "{payload:?} where {kind:?} of {max_payload} is taken"
        );
        tried += 1;
    }
    assert_eq!(tried, 21);
}

#[test]
fn a_user_may_knock_until_not_after_and_on_it() {
    let last = Duration::from_secs(NOON.into());
    let moment = Duration::from_nanos(1);
    for (wall, expected) in [
        (last - moment, Ok(())),
        (last, Ok(())),
        (last + moment, Err(DropReason::UserExpired)),
        (last + Duration::from_secs(1), Err(DropReason::UserExpired)),
    ] {
        let mut desk = Desk::new(with_alice(config(), |alice| alice.not_after = Some(last)));
        desk.now.wall = wall;
        assert_eq!(desk.outcome(&plain(1), HOME), expected, "{wall:?}");
    }
}

#[test]
fn a_door_takes_hold_and_release_in_front_of_its_payload_and_release_by_an_id_of_its_own() {
    let door = Door {
        hold: Duration::from_secs(60),
        max_hold: Duration::from_secs(60),
        undo: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
        nft: None,
        again: Again::Extend,
        on_shutdown: OnShutdown::Keep,
        release_id: ActionId::new(101),
    };
    let config = with_action(config(), |action| action.door = Some(door));
    let held = Options { hold: Some(600), ..Options::default() };
    let released = Options { release: Some(Release), ..Options::default() };
    let asked = [
        (1, Options::default(), Ok(Options::default())),
        (1, held.clone(), Ok(held.clone())),
        (1, released.clone(), Ok(released.clone())),
        (101, Options::default(), Ok(released.clone())),
        (101, held.clone(), Ok(Options { hold: Some(600), ..released.clone() })),
        (102, Options::default(), Err(DropReason::ActionUnknown)),
        (1, Options { argument: Some(Vec::new()), ..Options::default() }, Err(DropReason::Options)),
    ];
    for (action, options, expected) in asked {
        let payload = options.join(b"hi").unwrap();
        let knock = Knock { action: ActionId::new(action).unwrap(), payload: &payload, ..knock(1) };
        let granted = Desk::new(config.clone()).knock(&signed(&knock, Binding::None), HOME);
        let granted = granted.map(|grant| (grant.action.id.number(), grant.options, grant.payload));
        assert_eq!(granted, expected.map(|options| (1, options, b"hi".to_vec())), "{action} {options:?}");
    }
    let without = with_alice(config, |alice| alice.actions.clear());
    let knock = Knock { action: ActionId::new(101).unwrap(), ..knock(1) };
    assert_eq!(
        Desk::new(without).outcome(&signed(&knock, Binding::None), HOME),
        Err(DropReason::NotPermitted)
    );
}

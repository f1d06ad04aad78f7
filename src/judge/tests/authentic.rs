use super::*;

#[test]
fn a_grant_carries_what_was_verified() {
    let mut desk = Desk::new(config());
    let knock = Knock { payload: b"open", ..knock(1) };
    let plain = signed(&knock, Binding::Server(SERVER));
    let grant = desk.knock(&plain, "[::ffff:192.0.2.1]:4000").unwrap();
    assert_eq!(grant.knock, opened(&plain, HOME).knock());
    assert_eq!((grant.user.id, grant.action.id.number()), (ALICE, 1));
    assert_eq!(grant.source, HOME.parse().unwrap(), "folded");
    assert_eq!((grant.timestamp, grant.bound), (NOON, Bound::Server));
    assert_eq!(grant.payload, b"open");
}

#[test]
fn whatever_is_wrong_with_a_packet_has_one_outcome_and_is_not_remembered() {
    let alice = key(1);
    let version = |version| resigned(plain(1), &alice, |plain| plain[0] = version);
    let length =
        |len: u16| resigned(plain(1), &alice, |plain| plain[44..46].copy_from_slice(&len.to_le_bytes()));
    let nobody = Knock { user: UserId(3), ..knock(1) };
    let with_decoy = *nobody.encode(&decoys().key, Binding::None).unwrap();
    let other_version_with_decoy = resigned(plain(1), &decoys().key, |plain| plain[0] = 2);
    let mut no_hmac = plain(1);
    no_hmac[12..44].fill(0);
    let cases = [
        ("unknown user", signed(&nobody, Binding::None)),
        ("unknown user, under the decoy's key", with_decoy),
        ("version 2, under the decoy's key", other_version_with_decoy),
        ("bob's key", *knock(1).encode(&key(2), Binding::None).unwrap()),
        ("no hmac", no_hmac),
        ("version 0", version(0)),
        ("version 2", version(2)),
        ("version 255", version(255)),
        ("length 200", length(200)),
        ("length 256", length(256)),
        ("length 65535", length(0xffff)),
        ("another server", signed(&knock(1), Binding::Server(ServerId([8; 16])))),
        ("another source", signed(&knock(1), Binding::Source(SERVER, "192.0.2.2".parse().unwrap()))),
        ("zeros", [0; PLAINTEXT_LEN]),
        ("ones", [0xff; PLAINTEXT_LEN]),
    ];
    let mut desk = Desk::new(config());
    let mut refused = 0;
    for (name, plain) in &cases {
        for _ in 0..100 {
            assert_eq!(desk.outcome(plain, HOME), Err(DropReason::NotAuthentic), "{name}");
        }
        refused += 1;
    }
    assert_eq!(refused, 15);
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()), "neither its nonce nor alice's bucket was touched");
}

#[test]
fn what_stands_for_a_packet_that_is_none_verifies_under_no_key_of_a_user() {
    // User 0 exists here, and the stand-in names him.
    let mut config = config();
    let zero = user(UserId(0), key(1));
    config.users.insert(zero.id, Arc::new(zero));
    let mut desk = Desk::new(config);
    desk.now = at(0);
    let stand_in = resigned([0; PLAINTEXT_LEN], &key(1), |plain| plain[0] = 1);
    assert_eq!(
        desk.outcome(&stand_in, HOME),
        Err(DropReason::ReservedAction),
        "as a packet of its own it is user 0's"
    );
    let mut none = stand_in;
    none[0] = 2;
    assert_eq!(desk.outcome(&none, HOME), Err(DropReason::NotAuthentic));
}

#[test]
fn a_server_without_an_id_takes_plain_knocks_only() {
    let nameless = Config { server_id: None, ..config() };
    let mut desk = Desk::new(nameless);
    for server in [SERVER, ServerId([0; 16])] {
        let bound = signed(&knock(1), Binding::Server(server));
        assert_eq!(desk.outcome(&bound, HOME), Err(DropReason::NotAuthentic));
    }
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
}

#[test]
fn a_thief_who_delivers_a_source_bound_knock_first_costs_its_owner_nothing() {
    let mut desk = Desk::new(config());
    let bound = Binding::Source(SERVER, "192.0.2.1".parse().unwrap());
    let plain = signed(&knock(1), bound);
    for _ in 0..100 {
        assert_eq!(desk.outcome(&plain, ELSEWHERE), Err(DropReason::NotAuthentic));
    }
    assert_eq!(desk.knock(&plain, HOME).unwrap().bound, Bound::Source);
}

#[test]
fn bytes_past_the_payload_make_no_other_knock() {
    let mut desk = Desk::new(config());
    let mut changed = plain(1);
    changed[46..].fill(0xee);
    assert!(desk.knock(&changed, HOME).unwrap().payload.is_empty());
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Replay));
}

#[test]
fn action_zero_is_refused_before_anything_is_claimed() {
    let mut desk = Desk::new(config());
    let reply = resigned(plain(1), &key(1), |plain| plain[7] = 0);
    for _ in 0..100 {
        assert_eq!(desk.outcome(&reply, HOME), Err(DropReason::ReservedAction));
    }
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()), "its nonce and alice's bucket are untouched");
}

#[test]
fn a_key_that_was_exchanged_verifies_nothing_any_more() {
    let mut desk = Desk::new(config());
    desk.reload(with_alice(config(), |alice| alice.hmac_key = key(9)));
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::NotAuthentic));
    let new = *knock(1).encode(&key(9), Binding::None).unwrap();
    assert_eq!(desk.outcome(&new, HOME), Ok(()));
}

use proptest::prelude::*;

use super::*;

fn opened(source: SocketAddr) -> Opened {
    Opened {
        source,
        local: "192.0.2.9".parse().unwrap(),
        socket: SocketId(3),
        lane: Lane::Stamped(UserId(513)),
        under: Under::CURRENT,
        digest: [9; 32],
        plaintext: Zeroizing::new([7; PLAINTEXT_LEN]),
    }
}

fn setup() -> Setup {
    Setup {
        private_key: Zeroizing::new(vec![1, 2, 3]),
        old_private_key: Some(Zeroizing::new(vec![4, 5])),
        workers: 2,
        queue: 70_000,
        confinement: Confinement::On,
        user: Some((998, 70_001)),
    }
}

fn to_keeper() -> Vec<ToKeeper> {
    let mut counts = Counts { receive_errors: 2, ..Counts::ZERO };
    counts.refused[9] = u64::MAX;
    counts.lanes.stamped = Load { waiting: 7, short: true };
    let mut plain = opened("[2001:db8::1]:65535".parse().unwrap());
    plain.lane = Lane::Plain;
    let old = |opened| Opened { under: Under::OLD, ..opened };
    vec![
        ToKeeper::Ready,
        ToKeeper::Opened(opened("192.0.2.1:7".parse().unwrap())),
        ToKeeper::Opened(old(opened(plain.source))),
        ToKeeper::Opened(plain),
        ToKeeper::Counts(counts),
        ToKeeper::Sources(vec![
            from("192.0.2.1", DropReason::Length),
            from("2001:db8::1", DropReason::Channel),
        ]),
        ToKeeper::Sources(vec![from("192.0.2.1", DropReason::Stamp); SOURCES_MAX]),
        ToKeeper::Alive,
    ]
}

fn from(source: &str, reason: DropReason) -> RefusedFrom {
    RefusedFrom { source: source.parse().unwrap(), reason, count: u32::MAX }
}

fn reply(bytes: &[u8]) -> Reply {
    Reply {
        digest: [5; 32],
        socket: SocketId(1),
        to: "192.0.2.1:7".parse().unwrap(),
        from: "192.0.2.9".parse().unwrap(),
        until: 1_800_000_000,
        bytes: bytes.to_vec(),
    }
}

fn to_listener() -> Vec<ToListener> {
    let limits = Limits {
        freshness: 1,
        plain: Plain::Refused,
        user_rate: 2,
        user_burst: 3,
        prefix_rate: 4,
        prefix_burst: 5,
        prefixes: 6,
    };
    let added = vec![(UserId(7), StampKey::from_bytes([8; 32])), (UserId(9), StampKey::from_bytes([10; 32]))];
    vec![
        ToListener::Setup(setup()),
        ToListener::Setup(Setup {
            user: None,
            old_private_key: None,
            confinement: Confinement::Off,
            ..setup()
        }),
        ToListener::Limits(limits),
        ToListener::Socket(SocketId(5), Takes::Stamped),
        ToListener::StampKeys(StampKeys { removed: vec![UserId(7), UserId(65535)], added }),
        ToListener::StampKeys(StampKeys::default()),
        ToListener::Begin,
        ToListener::Settled("192.0.2.1".parse().unwrap()),
        ToListener::Reply(reply(&[1, 2, 3])),
        ToListener::Reply(Reply { to: "[fe80::1%7]:9".parse().unwrap(), ..reply(&[0; REPLY_MAX]) }),
        ToListener::Stop,
    ]
}

#[test]
fn what_is_said_reaches_the_other_side() {
    for message in to_keeper() {
        let read = ToKeeper::decode(&message.encode()).unwrap();
        assert_eq!(*read.encode(), *message.encode(), "{message:?}");
        assert_eq!(format!("{read:?}"), format!("{message:?}"));
    }
    for message in to_listener() {
        let read = ToListener::decode(&message.encode()).unwrap();
        assert_eq!(*read.encode(), *message.encode(), "{message:?}");
        assert_eq!(format!("{read:?}"), format!("{message:?}"));
    }
    let Ok(ToListener::Setup(read)) = ToListener::decode(&ToListener::Setup(setup()).encode()) else {
        panic!("another message")
    };
    assert_eq!((read.workers, read.queue, read.user), (2, 70_000, Some((998, 70_001))));
    assert_eq!((&*read.private_key, read.old_private_key.as_deref()), (&vec![1, 2, 3], Some(&vec![4, 5])));
}

#[test]
fn a_mapped_source_is_folded_whatever_the_listener_says() {
    let message = ToKeeper::Opened(opened("[::ffff:192.0.2.1]:7".parse().unwrap()));
    let Ok(ToKeeper::Opened(read)) = ToKeeper::decode(&message.encode()) else { panic!("another message") };
    assert_eq!(read.source, "192.0.2.1:7".parse().unwrap());
}

#[test]
fn every_prefix_and_extension_of_a_message_is_malformed() {
    for message in to_keeper() {
        let message = message.encode();
        for len in 0..message.len() {
            assert!(ToKeeper::decode(&message[..len]).is_err());
        }
        let mut longer = message.to_vec();
        longer.push(0);
        assert!(ToKeeper::decode(&longer).is_err());
    }
}

#[test]
fn more_keys_than_a_message_takes_are_malformed() {
    let keys = |count| StampKeys {
        removed: Vec::new(),
        added: vec![(UserId(1), StampKey::from_bytes([1; 32])); count],
    };
    assert!(ToListener::decode(&ToListener::StampKeys(keys(STAMP_KEYS_MAX)).encode()).is_ok());
    assert!(ToListener::StampKeys(keys(STAMP_KEYS_MAX)).encode().len() < MESSAGE_MAX);
    assert!(ToListener::decode(&ToListener::StampKeys(keys(STAMP_KEYS_MAX + 1)).encode()).is_err());
}

#[test]
fn an_answer_longer_than_any_knock_is_malformed_and_so_is_none() {
    assert!(ToListener::decode(&ToListener::Reply(reply(&[0; REPLY_MAX + 1])).encode()).is_err());
    assert!(ToListener::decode(&ToListener::Reply(reply(&[])).encode()).is_err());
}

#[test]
fn a_full_channel_says_so_and_a_closed_one_ends() {
    let (one, other) = Channel::pair().unwrap();
    let mut sent = 0;
    while one.send(&[1; 1000], None) == Sent::Yes {
        sent += 1;
    }
    assert!(sent > 100, "{sent} messages fitted");
    assert_eq!(one.send(&[1], None), Sent::Full);
    let mut buffer = [0; MESSAGE_MAX];
    for _ in 0..sent {
        assert!(matches!(other.receive(&mut buffer), Received::Message(1000, None)));
    }
    assert!(matches!(other.receive(&mut buffer), Received::Empty));
    drop(one);
    assert!(matches!(other.receive(&mut buffer), Received::End));
    assert_eq!(other.send(&[1], None), Sent::Closed);
}

#[test]
fn a_message_longer_than_any_of_ours_ends_the_channel() {
    let (one, other) = Channel::pair().unwrap();
    assert_eq!(one.send(&[1; MESSAGE_MAX + 1], None), Sent::Yes);
    assert!(matches!(other.receive(&mut [0; MESSAGE_MAX]), Received::End));
}

#[test]
fn a_descriptor_comes_along() {
    let (one, other) = Channel::pair().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(one.send(b"x", Some(socket.as_fd())), Sent::Yes);
    let Received::Message(1, Some(fd)) = other.receive(&mut [0; MESSAGE_MAX]) else {
        panic!("no descriptor")
    };
    let copy = std::net::UdpSocket::from(fd);
    assert_eq!(copy.local_addr().unwrap(), socket.local_addr().unwrap());
}

use std::os::fd::AsFd as _;

proptest! {
    #[test]
    fn any_bytes_decode_or_are_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = ToKeeper::decode(&bytes) {
            // A mapped address is folded on the way in, so encoding is compared by decoding again.
            prop_assert!(ToKeeper::decode(&message.encode()).is_ok());
        }
        if let Ok(message) = ToListener::decode(&bytes) {
            prop_assert_eq!(&**message.encode(), &*bytes);
        }
    }
}

#[test]
fn neither_key_nor_plaintext_is_printed() {
    let setup = Setup { private_key: Zeroizing::new(vec![201; 8]), ..setup() };
    assert_eq!(format!("{:?}", ToListener::Setup(setup)), "Setup(Setup(****))");
    let opened = Opened { digest: [0xab; 32], ..opened("192.0.2.1:9".parse().unwrap()) };
    assert_eq!(format!("{opened:?}"), "Opened(abababababababab from 192.0.2.1:9)");
}

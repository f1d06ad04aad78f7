use proptest::prelude::*;

use super::*;

fn opened(source: SocketAddr) -> Opened {
    Opened { source, socket: SocketId(3), digest: [9; 32], plaintext: Zeroizing::new([7; PLAINTEXT_LEN]) }
}

#[test]
fn what_the_listener_says_reaches_the_keeper() {
    for source in ["192.0.2.1:7", "[2001:db8::1]:65535"] {
        let source = source.parse().unwrap();
        let ToKeeper::Opened(read) = ToKeeper::decode(&ToKeeper::Opened(opened(source)).encode()).unwrap()
        else {
            panic!("another message");
        };
        assert_eq!((read.source, read.socket, read.digest), (source, SocketId(3), [9; 32]));
        assert_eq!(*read.plaintext, [7; PLAINTEXT_LEN]);
    }
    let counts = Counts { received: u64::MAX, receive_errors: 2, refused: [3, 4, 5, 6] };
    assert!(
        matches!(ToKeeper::decode(&ToKeeper::Counts(counts).encode()), Ok(ToKeeper::Counts(c)) if c == counts)
    );
    assert!(matches!(ToKeeper::decode(&ToKeeper::Ready.encode()), Ok(ToKeeper::Ready)));
}

#[test]
fn what_the_keeper_says_reaches_the_listener() {
    let setup = Setup { private_key: Zeroizing::new(vec![1, 2, 3]), workers: 2, queue: 70_000, sockets: 16 };
    let Ok(ToListener::Setup(read)) = ToListener::decode(&ToListener::Setup(setup).encode()) else {
        panic!("another message");
    };
    assert_eq!((read.workers, read.queue, read.sockets), (2, 70_000, 16));
    assert_eq!(*read.private_key, vec![1, 2, 3]);
    assert!(matches!(
        ToListener::decode(&ToListener::Socket(SocketId(5)).encode()),
        Ok(ToListener::Socket(SocketId(5)))
    ));
    assert!(matches!(ToListener::decode(&ToListener::Stop.encode()), Ok(ToListener::Stop)));
}

#[test]
fn a_mapped_source_is_folded_whatever_the_listener_says() {
    let message = ToKeeper::Opened(opened("[::ffff:192.0.2.1]:7".parse().unwrap()));
    let Ok(ToKeeper::Opened(read)) = ToKeeper::decode(&message.encode()) else { panic!("another message") };
    assert_eq!(read.source, "192.0.2.1:7".parse().unwrap());
}

#[test]
fn every_prefix_and_extension_of_a_message_is_malformed() {
    let messages = [
        ToKeeper::Ready.encode(),
        ToKeeper::Opened(opened("192.0.2.1:7".parse().unwrap())).encode(),
        ToKeeper::Counts(Counts::default()).encode(),
    ];
    for message in messages {
        for len in 0..message.len() {
            assert!(ToKeeper::decode(&message[..len]).is_err());
        }
        let mut longer = message.to_vec();
        longer.push(0);
        assert!(ToKeeper::decode(&longer).is_err());
    }
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
    let setup = ToListener::Setup(Setup {
        private_key: Zeroizing::new(vec![201; 8]),
        workers: 1,
        queue: 1,
        sockets: 1,
    });
    assert_eq!(format!("{setup:?}"), "Setup(Setup(****))");
    let opened = Opened {
        source: "192.0.2.1:9".parse().unwrap(),
        socket: SocketId(0),
        digest: [0xab; 32],
        plaintext: Zeroizing::new([201; PLAINTEXT_LEN]),
    };
    assert_eq!(format!("{opened:?}"), "Opened(abababababababab from 192.0.2.1:9)");
}

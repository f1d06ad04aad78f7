use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::OsRng;
use rsa::{Pkcs1v15Encrypt, RsaPublicKey};

use super::*;
use crate::wire::PrivateKey;

fn for_each_opener(test: impl Fn(&PrivateKey, &Opener)) {
    let key = PrivateKey::generate(&mut OsRng).unwrap();
    let openers = Opener::each(key.der()).unwrap();
    assert!(!openers.is_empty());
    for (name, opener) in &openers {
        println!("opener {name}");
        test(&key, opener);
    }
}

#[test]
fn a_sealed_packet_opens_to_what_was_sealed() {
    for_each_opener(|key, opener| {
        let plain = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(*opener.open(&key.public().seal(&mut OsRng, &plain).unwrap()), plain);
    });
}

#[test]
fn a_longer_key_opens_too() {
    let key = rsa::RsaPrivateKey::new(&mut OsRng, 3072).unwrap();
    let der = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).unwrap();
    let public = PrivateKey::from_der(der.as_bytes()).unwrap().public().clone();
    for (_, opener) in Opener::each(der.as_bytes()).unwrap() {
        let sealed = public.seal(&mut OsRng, &[3; PLAINTEXT_LEN]).unwrap();
        assert_eq!(sealed.len(), 384);
        assert_eq!(*opener.open(&sealed), [3; PLAINTEXT_LEN]);
    }
}

#[test]
fn whatever_is_wrong_a_steady_random_looking_plaintext_comes_out() {
    for_each_opener(|key, opener| {
        let public = RsaPublicKey::from_public_key_pem(&key.public().to_pem().unwrap()).unwrap();
        let short = public.encrypt(&mut OsRng, Pkcs1v15Encrypt, &[1; 244]).unwrap();
        let empty = public.encrypt(&mut OsRng, Pkcs1v15Encrypt, &[]).unwrap();
        let mut flipped = key.public().seal(&mut OsRng, &[1; PLAINTEXT_LEN]).unwrap();
        flipped[200] ^= 1;
        let modulus = key.public().modulus();
        let cases: [&[u8]; 7] = [&short, &empty, &flipped, &[0; 256], &[1; 256], &modulus, &[7; 255]];
        for ciphertext in cases {
            let opened = opener.open(ciphertext);
            assert_eq!(opened, opener.open(ciphertext), "the same datagram looks the same again");
            assert_eq!(opened, opener.false_plaintext(ciphertext));
            let zeros = opened.iter().filter(|byte| **byte == 0).count();
            assert!(zeros < 20, "{zeros} zeros do not look random");
        }
        assert_ne!(opener.open(&short), opener.open(&empty));
    });
}

#[test]
fn while_two_keys_are_good_what_was_sealed_under_either_opens_and_which_is_told() {
    let [current, old, other] = [(); 3].map(|()| PrivateKey::generate(&mut OsRng).unwrap());
    for (_, opener) in Opener::each(current.der()).unwrap() {
        let opener = opener.and_old(old.der()).unwrap();
        let mut opened = 0;
        for seed in 0..40_u8 {
            let plain = std::array::from_fn(|at| seed.wrapping_mul(31) ^ u8::try_from(at).unwrap());
            for (key, under, wrong) in
                [(&current, Under::CURRENT, Under::OLD), (&old, Under::OLD, Under::CURRENT)]
            {
                let sealed = key.public().seal(&mut OsRng, &plain).unwrap();
                assert_eq!(opener.open_any(&sealed), (Zeroizing::new(plain), under));
                assert_eq!(*opener.open_under(under, &sealed), plain);
                assert_ne!(
                    *opener.open_under(wrong, &sealed),
                    plain,
                    "a stamp tells the key, and no other is tried"
                );
                opened += 1;
            }
        }
        assert_eq!(opened, 80);
        let foreign = other.public().seal(&mut OsRng, &[5; PLAINTEXT_LEN]).unwrap();
        for ciphertext in [&foreign[..], &[0; 256], &[0xff; 256], &[1; 256], &[7; 255]] {
            assert_eq!(opener.open_any(ciphertext), (opener.false_plaintext(ciphertext), Under::CURRENT));
        }
    }
}

#[test]
fn without_an_old_key_nothing_opens_under_it() {
    for_each_opener(|key, opener| {
        let sealed = key.public().seal(&mut OsRng, &[6; PLAINTEXT_LEN]).unwrap();
        assert_eq!(opener.open_any(&sealed), (Zeroizing::new([6; PLAINTEXT_LEN]), Under::CURRENT));
        assert_eq!(opener.open_under(Under::OLD, &sealed), opener.false_plaintext(&sealed));
    });
}

#[test]
fn another_process_makes_other_false_plaintexts() {
    let key = PrivateKey::generate(&mut OsRng).unwrap();
    let (one, other) = (Opener::new(key.der()).unwrap(), Opener::new(key.der()).unwrap());
    assert_ne!(one.open(&[1; 256]), other.open(&[1; 256]));
}

#[test]
fn an_unusable_key_is_an_error() {
    assert!(Opener::new(b"").is_err());
    assert!(Opener::new(&[0x30; 1200]).is_err());
}

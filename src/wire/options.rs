//! WIRE.md "Options in front of the payload": what a knock asks for beside its action.
//!
//! Only actions that take options have them; for all others these bytes are the script's payload like any.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeroize::Zeroize;

use super::packet::PAYLOAD_MAX;
use super::reader::{Reader, WrongLength};

/// What stands in front of a payload, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Hold the door for so many seconds.
    pub hold: Option<u32>,
    /// The second factor.
    pub totp: Option<TotpCode>,
    /// Open for this address instead of the packet's source; `::ffff:` folded.
    pub address: Option<IpAddr>,
    /// End the lease now.
    pub release: Option<Release>,
    /// Argument of a built-in action.
    pub argument: Option<Vec<u8>>,
}

/// A wish to close the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release;

/// Six ASCII digits that are never written anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpCode([u8; 6]);

/// The types of option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// [`Options::hold`]
    Hold = 1,
    /// [`Options::totp`]
    Totp = 2,
    /// [`Options::address`]
    Address = 3,
    /// [`Options::release`]
    Release = 4,
    /// [`Options::argument`]
    Argument = 5,
}

/// Not options as they must be, or not such as the action takes: the knock is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("options that are malformed, unknown, repeated, or not taken by the action")]
pub struct BadOptions;

/// Options and payload together are longer than a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("options and payload are longer than the {PAYLOAD_MAX} bytes that a knock carries")]
pub struct TooLong;

impl Options {
    /// Takes the options from the front of `payload`, for an action that takes those of `takes`. What is left is the
    /// script's payload.
    ///
    /// # Errors
    ///
    /// [`BadOptions`].
    pub fn split<'a>(payload: &'a [u8], takes: &[Kind]) -> Result<(Options, &'a [u8]), BadOptions> {
        let mut options = Options::default();
        let Some(rest) = payload.strip_prefix(MAGIC).filter(|_| !takes.is_empty()) else {
            return Ok((options, payload));
        };
        let mut reader = Reader::new(rest);
        if reader.u8()? != VERSION {
            return Err(BadOptions);
        }
        for _ in 0..reader.u8()? {
            let kind = Kind::of(reader.u8()?).filter(|kind| takes.contains(kind)).ok_or(BadOptions)?;
            let len = reader.u8()?;
            options.set(kind, reader.bytes(len.into())?)?;
        }
        Ok((options, reader.rest()))
    }

    /// These options, then `payload`; `payload` as it is if there are none.
    ///
    /// # Errors
    ///
    /// [`TooLong`].
    pub fn join(&self, payload: &[u8]) -> Result<Vec<u8>, TooLong> {
        let values = self.values();
        if values.is_empty() {
            return fits(payload.to_vec());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, u8::try_from(values.len()).map_err(|_| TooLong)?]);
        for (kind, value) in values {
            bytes.extend([kind as u8, u8::try_from(value.len()).map_err(|_| TooLong)?]);
            bytes.extend(value);
        }
        bytes.extend(payload);
        fits(bytes)
    }

    fn set(&mut self, kind: Kind, value: &[u8]) -> Result<(), BadOptions> {
        match kind {
            Kind::Hold => once(&mut self.hold, u32::from_be_bytes(exact(value)?)),
            Kind::Totp => once(&mut self.totp, TotpCode::new(exact(value)?).ok_or(BadOptions)?),
            Kind::Address => once(&mut self.address, address(value)?),
            Kind::Release => once(&mut self.release, exact::<0>(value).map(|_| Release)?),
            Kind::Argument => once(&mut self.argument, value.to_vec()),
        }
    }

    fn values(&self) -> Vec<(Kind, Vec<u8>)> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let values = [
            (Kind::Hold, self.hold.map(|seconds| seconds.to_be_bytes().to_vec())),
            (Kind::Totp, self.totp.as_ref().map(|code| code.0.to_vec())),
            (Kind::Address, self.address.map(octets)),
            (Kind::Release, self.release.map(|Release| Vec::new())),
            (Kind::Argument, self.argument.clone()),
        ];
        values.into_iter().filter_map(|(kind, value)| Some((kind, value?))).collect()
    }
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        [Kind::Hold, Kind::Totp, Kind::Address, Kind::Release, Kind::Argument]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

impl TotpCode {
    /// `None`: not six digits.
    pub fn new(digits: [u8; 6]) -> Option<TotpCode> {
        digits.iter().all(u8::is_ascii_digit).then_some(TotpCode(digits))
    }

    /// To be compared in constant time.
    pub fn digits(&self) -> &[u8; 6] {
        &self.0
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpCode(******)")
    }
}

impl Drop for TotpCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<WrongLength> for BadOptions {
    fn from(_: WrongLength) -> BadOptions {
        BadOptions
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), BadOptions> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadOptions),
    }
}

fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], BadOptions> {
    value.try_into().map_err(|_| BadOptions)
}

fn address(value: &[u8]) -> Result<IpAddr, BadOptions> {
    match value.len() {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(exact::<4>(value)?))),
        _ => Ok(IpAddr::V6(Ipv6Addr::from(exact::<16>(value)?)).to_canonical()),
    }
}

fn fits(bytes: Vec<u8>) -> Result<Vec<u8>, TooLong> {
    if bytes.len() > PAYLOAD_MAX { Err(TooLong) } else { Ok(bytes) }
}

/// "\0SLO"
pub(crate) const MAGIC: &[u8] = b"\0SLO";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Kind; 5] = [Kind::Hold, Kind::Totp, Kind::Address, Kind::Release, Kind::Argument];

    #[test]
    fn the_example_of_the_specification_reads_and_writes() {
        let bytes = b"\0SLO\x01\x01\x01\x04\0\0\x02\x58hi";
        let held = Options { hold: Some(600), ..Options::default() };
        assert_eq!(Options::split(bytes, &[Kind::Hold]), Ok((held.clone(), &b"hi"[..])));
        assert_eq!(held.join(b"hi"), Ok(bytes.to_vec()));
    }

    #[test]
    fn an_action_without_options_gets_the_bytes_as_they_are() {
        let bytes = b"\0SLO\x01\x01\x01\x04\0\0\x02\x58hi";
        assert_eq!(Options::split(bytes, &[]), Ok((Options::default(), &bytes[..])));
    }

    #[test]
    fn what_is_malformed_repeated_or_not_taken_refuses_the_knock() {
        let cases: [&[u8]; 12] = [
            b"\0SLO",
            b"\0SLO\x02\0",
            b"\0SLO\x01",
            b"\0SLO\x01\x01",
            b"\0SLO\x01\x01\x01\x04\0\0\x02",
            b"\0SLO\x01\x01\x01\x03\0\0\x02",
            b"\0SLO\x01\x02\x01\x04\0\0\x02\x58\x01\x04\0\0\x02\x58",
            b"\0SLO\x01\x01\x06\0",
            b"\0SLO\x01\x01\0\0",
            b"\0SLO\x01\x01\x02\x0612345a",
            b"\0SLO\x01\x01\x03\x05abcde",
            b"\0SLO\x01\x01\x04\x01a",
        ];
        for bytes in cases {
            assert_eq!(Options::split(bytes, &ALL), Err(BadOptions), "{bytes:?}");
        }
        let release = Options { release: Some(Release), ..Options::default() }.join(b"").unwrap();
        assert_eq!(Options::split(&release, &[Kind::Hold]), Err(BadOptions));
    }

    #[test]
    fn a_code_is_never_shown() {
        let code = TotpCode::new(*b"123456");
        assert!(!format!("{code:?}").contains("123"));
    }

    fn options() -> impl Strategy<Value = Options> {
        let digits = proptest::array::uniform6(b'0'..=b'9');
        let totp = proptest::option::of(digits.prop_map(|digits| TotpCode::new(digits).unwrap()));
        let address = proptest::option::of(any::<IpAddr>().prop_map(|ip| ip.to_canonical()));
        let release = proptest::option::of(Just(Release));
        let argument = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80));
        (any::<Option<u32>>(), totp, address, release, argument).prop_map(
            |(hold, totp, address, release, argument)| Options { hold, totp, address, release, argument },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            options in options(),
            payload in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let plain = options == Options::default() && payload.starts_with(MAGIC);
            prop_assume!(!plain);
            let bytes = options.join(&payload).unwrap();
            prop_assert_eq!(Options::split(&bytes, &ALL), Ok((options, &payload[..])));
        }

        #[test]
        fn any_bytes_are_options_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let framed: Vec<u8> = [MAGIC, &[VERSION], &bytes].concat();
            if let Ok((options, rest)) = Options::split(&framed, &ALL)
                && options != Options::default()
            {
                let (again, payload) = (options.join(rest).unwrap(), rest);
                prop_assert_eq!(Options::split(&again, &ALL), Ok((options, payload)));
            }
        }
    }
}

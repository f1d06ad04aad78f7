//! Doors in nftables: what `nft` reads, and what it answers. Both are JSON, libnftables-json(5).
//!
//! In: a set of the configuration, an address, a time. Out: a program, its arguments and its input, to be started like any
//! job. Never: a shell, or text that nft would have to parse.
//!
//! # Security considerations
//!
//! Whoever knocks chooses an address, and no more: an [`IpAddr`], written by its own `Display`. The names are those that the
//! configuration was checked for. An element without a timeout would be a door that nothing closes, and zero means "none"
//! to the kernel: the shortest is a second, and a set that takes no timeouts refuses the whole batch.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

pub use crate::config::resolved::NFT;
use crate::config::resolved::NftSet;

/// A run of nft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute.
    pub program: &'static str,
    /// The arguments behind the program's name.
    pub args: Vec<String>,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// An address in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// `::ffff:` cannot be in there.
    pub address: IpAddr,
    /// Until the kernel takes it out; `None`: never.
    pub left: Option<Duration>,
}

/// What nft said is not what it should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nft answered something that is no list of a set")]
pub struct BadAnswer;

/// Puts `address` into the set for `timeout`, rounded up to whole seconds, whether it is there or not.
///
/// Added, deleted, added, in one transaction: kernels before 6.12 leave the old timeout with an element that is added
/// again, and what is not there cannot be deleted.
pub fn open(set: &NftSet, address: IpAddr, timeout: Duration) -> Exec {
    let address = address.to_canonical();
    let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0)).max(1);
    let timed = json!({ "elem": { "val": address.to_string(), "timeout": seconds } });
    batch(&[
        command("add", set, address, &timed),
        command("delete", set, address, &json!(address.to_string())),
        command("add", set, address, &timed),
    ])
}

/// Takes `address` out of the set. It succeeds if it is not there, too: the kernel may have been first.
pub fn close(set: &NftSet, address: IpAddr) -> Exec {
    let address = address.to_canonical();
    let bare = json!(address.to_string());
    // Added with a timeout: a set of timed elements takes none without one from some versions of nft.
    let timed = json!({ "elem": { "val": address.to_string(), "timeout": 1 } });
    batch(&[command("add", set, address, &timed), command("delete", set, address, &bare)])
}

/// Lists the set's addresses of both families: two runs, IPv4 first. [`elements`] reads each one's answer.
pub fn list(set: &NftSet) -> [Exec; 2] {
    [set.v4(), set.v6()].map(|name| {
        let args = ["-j", "list", "set", "inet", &set.table, &name].map(str::to_owned);
        Exec { program: NFT, args: args.to_vec(), stdin: Vec::new() }
    })
}

/// Reads a list of one set. What is no single address, an administrator's own network for one, is left out.
///
/// # Errors
///
/// [`BadAnswer`].
pub fn elements(answer: &[u8]) -> Result<Vec<Element>, BadAnswer> {
    let answer: Value = serde_json::from_slice(answer).map_err(|_| BadAnswer)?;
    let parts = answer.get("nftables").and_then(Value::as_array).ok_or(BadAnswer)?;
    let set = parts.iter().find_map(|part| part.get("set")).ok_or(BadAnswer)?;
    let Some(elements) = set.get("elem") else {
        return Ok(Vec::new());
    };
    Ok(elements.as_array().ok_or(BadAnswer)?.iter().filter_map(element).collect())
}

/// `"192.0.2.7"`, or that with a timeout: `{"elem": {"val": "192.0.2.7", "timeout": 60, "expires": 59}}`.
fn element(value: &Value) -> Option<Element> {
    let (address, left) = match value.get("elem") {
        Some(timed) => (timed.get("val")?, timed.get("expires").and_then(Value::as_u64)),
        None => (value, None),
    };
    Some(Element { address: address.as_str()?.parse().ok()?, left: left.map(Duration::from_secs) })
}

fn command(verb: &str, set: &NftSet, address: IpAddr, element: &Value) -> Value {
    let name = match address {
        IpAddr::V4(_) => set.v4(),
        IpAddr::V6(_) => set.v6(),
    };
    json!({ verb: { "element": { "family": "inet", "table": set.table, "name": name, "elem": [element] } } })
}

fn batch(commands: &[Value]) -> Exec {
    let stdin = json!({ "nftables": commands }).to_string().into_bytes();
    Exec { program: NFT, args: ["-j", "-f", "-"].map(str::to_owned).to_vec(), stdin }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> NftSet {
        NftSet { table: "siglatch".to_owned(), name: "web".to_owned() }
    }

    fn input(exec: &Exec) -> &str {
        assert_eq!((exec.program, exec.args.join(" ").as_str()), ("/usr/sbin/nft", "-j -f -"));
        std::str::from_utf8(&exec.stdin).unwrap()
    }

    #[test]
    fn a_door_opens_by_adding_deleting_and_adding_in_one_batch() {
        let exec = open(&web(), "192.0.2.7".parse().unwrap(), Duration::from_secs(3600));
        let add = r#"{"add":{"element":{"elem":[{"elem":{"timeout":3600,"val":"192.0.2.7"}}],"family":"inet","name":"web4","table":"siglatch"}}}"#;
        let delete = r#"{"delete":{"element":{"elem":["192.0.2.7"],"family":"inet","name":"web4","table":"siglatch"}}}"#;
        assert_eq!(input(&exec), format!(r#"{{"nftables":[{add},{delete},{add}]}}"#));
    }

    #[test]
    fn a_door_closes_by_adding_and_deleting_so_that_it_may_be_closed_already() {
        let exec = close(&web(), "2001:db8::7".parse().unwrap());
        let add = r#"{"add":{"element":{"elem":[{"elem":{"timeout":1,"val":"2001:db8::7"}}],"family":"inet","name":"web6","table":"siglatch"}}}"#;
        let delete = r#"{"delete":{"element":{"elem":["2001:db8::7"],"family":"inet","name":"web6","table":"siglatch"}}}"#;
        assert_eq!(input(&exec), format!(r#"{{"nftables":[{add},{delete}]}}"#));
    }

    #[test]
    fn a_timeout_is_rounded_up_and_never_the_zero_that_means_for_ever() {
        let cases = [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_001, 60), (60_000, 60)];
        for (millis, seconds) in cases {
            let exec = open(&web(), "192.0.2.7".parse().unwrap(), Duration::from_millis(millis));
            assert_eq!(input(&exec).matches(&format!("\"timeout\":{seconds},")).count(), 2, "{millis}");
        }
        let exec = open(&web(), "192.0.2.7".parse().unwrap(), Duration::MAX);
        assert!(input(&exec).contains(&format!("\"timeout\":{}", u64::MAX)));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_goes_into_the_ipv4_set() {
        for exec in [
            open(&web(), "::ffff:192.0.2.7".parse().unwrap(), Duration::from_secs(1)),
            close(&web(), "::ffff:192.0.2.7".parse().unwrap()),
        ] {
            assert!(input(&exec).contains("\"192.0.2.7\"") && !input(&exec).contains("web6"));
        }
    }

    #[test]
    fn a_list_is_read_with_what_is_left_of_each_timeout() {
        let answer =
            br#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "inet", "name": "web4",
            "table": "siglatch", "type": "ipv4_addr", "handle": 2, "flags": ["timeout"], "elem": [
            {"elem": {"val": "192.0.2.7", "timeout": 7200, "expires": 7199}}, "192.0.2.8",
            {"prefix": {"addr": "198.51.100.0", "len": 24}}, {"range": ["192.0.2.9", "192.0.2.11"]}]}}]}"#;
        let element = |address: &str, left: Option<u64>| Element {
            address: address.parse().unwrap(),
            left: left.map(Duration::from_secs),
        };
        let read = elements(answer).unwrap();
        assert_eq!(read, [element("192.0.2.7", Some(7199)), element("192.0.2.8", None)]);
    }

    #[test]
    fn an_empty_set_is_a_list_and_anything_else_is_not() {
        assert_eq!(elements(br#"{"nftables":[{"set":{"name":"web4"}}]}"#), Ok(Vec::new()));
        let others: [&[u8]; 7] = [
            b"",
            b"{}",
            b"null",
            b"[]",
            b"{\"nftables\":{}}",
            br#"{"nftables":[{"set":{"elem":1}}]}"#,
            b"\xff",
        ];
        for other in others {
            assert_eq!(elements(other), Err(BadAnswer));
        }
    }

    #[test]
    fn lists_are_asked_for_by_name_and_family() {
        let asked = list(&web()).map(|exec| exec.args.join(" "));
        assert_eq!(asked, ["-j list set inet siglatch web4", "-j list set inet siglatch web6"]);
    }
}

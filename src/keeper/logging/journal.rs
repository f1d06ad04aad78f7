//! systemd's journal, by its own protocol: a line's fields are fields there.
//!
//! One entry is one datagram. No line is longer than a datagram may be: what comes from outside is cut before it is said.

use std::io;
use std::os::unix::net::UnixDatagram;

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};
use nix::sys::stat::fstat;
use sha2::{Digest as _, Sha256};

use super::form;

/// Whether standard error is the journal's anyway: systemd says so of the file that it was when the program started.
pub(super) fn has_stderr() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|stderr| said == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// A way there.
///
/// # Errors
///
/// There is no journal, or it is out of reach.
pub(super) fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    Ok(socket)
}

/// The line as an entry.
pub(super) fn entry(record: &Record<'_>) -> Vec<u8> {
    let mut entry = Entry(Vec::new());
    entry.put("MESSAGE", &form::message(record));
    entry.put(
        "PRIORITY",
        match record.level() {
            Level::Error => "3",
            Level::Warn => "4",
            Level::Info => "6",
            Level::Debug | Level::Trace => "7",
        },
    );
    entry.put("SYSLOG_IDENTIFIER", "siglatchd");
    // Writing to a vector does not fail.
    drop(record.key_values().visit(&mut entry));
    entry.0
}

/// Names the kind of a line for ever: the first half of SHA-256 over "siglatch log " and its code, in hex.
fn message_id(code: &str) -> String {
    let digest = Sha256::new().chain_update("siglatch log ").chain_update(code).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

struct Entry(Vec<u8>);

impl Entry {
    /// A value of one line stands behind `=`; any other behind its length, so that none can end early and go on as another
    /// field.
    fn put(&mut self, name: &str, value: &str) {
        self.0.extend(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl<'kvs> VisitSource<'kvs> for Entry {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let (name, value) = (key.as_str().to_ascii_uppercase().replace('-', "_"), value.to_string());
        if name == "CODE" {
            self.put("MESSAGE_ID", &message_id(&value));
        }
        self.put(&format!("SIGLATCH_{name}"), &value);
        Ok(())
    }
}

const SOCKET: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    use super::*;

    /// As journald reads it.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while let Some(at) = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
            let (name, rest) = entry.split_at(at);
            let (sign, rest) = rest.split_first().unwrap();
            let (len, rest) = match sign {
                b'=' => (rest.iter().position(|byte| *byte == b'\n').unwrap(), rest),
                _ => {
                    let (len, rest) = rest.split_first_chunk().unwrap();
                    (usize::try_from(u64::from_le_bytes(*len)).unwrap(), rest)
                }
            };
            let (value, rest) = rest.split_at(len);
            fields.push((text(name), text(value)));
            entry = rest.strip_prefix(b"\n").unwrap();
        }
        assert!(entry.is_empty());
        fields
    }

    #[test]
    fn a_lines_fields_are_the_journals_and_none_can_make_another() {
        let hostile = "a\nPRIORITY=0\nMESSAGE=all is well";
        let said = [("code", "output"), ("stamped-short-for", "7"), ("text", hostile)];
        let args = format_args!("script output");
        let entry = entry(&Record::builder().args(args).level(Level::Warn).key_values(&said).build());
        let message =
            "script output code=output stamped-short-for=7 text=\"a\\nPRIORITY=0\\nMESSAGE=all is well\"";
        let expected = [
            ("MESSAGE", message),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "siglatchd"),
            ("MESSAGE_ID", &message_id("output")),
            ("SIGLATCH_CODE", "output"),
            ("SIGLATCH_STAMPED_SHORT_FOR", "7"),
            ("SIGLATCH_TEXT", hostile),
        ];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(fields(&entry), expected);
    }

    #[test]
    fn the_id_of_a_kind_of_line_never_changes() {
        // printf 'siglatch log ran' | sha256sum | cut -c 1-32
        assert_eq!(message_id("ran"), "b014d449684ac4c19dca46c62c61544d");
    }
}

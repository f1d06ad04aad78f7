//! CMD_CYCLE_OPEN and CMD_CYCLE_CLOSE: a command with variables in it becomes a script.
//!
//! fwknopd cuts a command at white space, knows no quotes and asks no shell. The script does the same: each word is quoted, and
//! only the address, which siglatchd has parsed, comes from a knock.

use std::path::Path;

use super::ports::Port;
use crate::config::files::check_program;

/// The script, or why there can be none. `port` is what the stanza opens, if it is one alone.
pub(super) fn script(command: &str, of: &str, port: Option<Port>) -> Result<String, String> {
    let words: Vec<&str> = command.split_ascii_whitespace().collect();
    let program = words.first().copied().unwrap_or_default();
    if !program.starts_with('/') {
        return Err(format!("{program} is not an absolute path"));
    }
    // Links are the system's to follow, as to the iptables that is installed.
    let real = Path::new(program).canonicalize().unwrap_or_else(|_| program.into());
    check_program(&real).map_err(|bad| bad.to_string())?;
    let words = words.into_iter().map(|word| quoted(word, port)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!(
        "#!/bin/sh\n# {of}, by siglatchctl import. $1 is the address that knocked.\nexec {}\n",
        words.join(" ")
    ))
}

/// A word as the shell takes it for itself.
fn quoted(word: &str, port: Option<Port>) -> Result<String, String> {
    let mut parts = word.split('$');
    let mut text = literal(parts.next().unwrap_or_default());
    for part in parts {
        let known = VARIABLES.iter().find(|(name, _)| part.starts_with(name));
        // fwknopd leaves out the `$` of a name that it does not know.
        let (value, rest) = match known {
            None => (String::new(), part),
            Some((name, variable)) => {
                (variable.value(name, port)?, part.get(name.len()..).unwrap_or_default())
            }
        };
        text.push_str(&value);
        text.push_str(&literal(rest));
    }
    Ok(if text.is_empty() { "''".to_owned() } else { text })
}

fn literal(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[derive(Clone, Copy)]
enum Variable {
    Address,
    Port,
    Protocol,
    /// What a script is not told.
    Unknown,
}

impl Variable {
    fn value(self, name: &str, port: Option<Port>) -> Result<String, String> {
        let one = || {
            port.ok_or_else(|| format!("${name} is one of several ports, which a knock would have to name"))
        };
        match self {
            Variable::Address => Ok("\"$1\"".to_owned()),
            Variable::Port => Ok(one()?.number.to_string()),
            Variable::Protocol => Ok(one()?.protocol.number().to_string()),
            Variable::Unknown => Err(format!("a script is not told ${name}")),
        }
    }
}

/// fwknopd compares the start alone.
const VARIABLES: [(&str, Variable); 8] = [
    ("CLIENT_TIMEOUT", Variable::Unknown),
    ("IP", Variable::Address),
    ("SRC", Variable::Address),
    ("PKT_SRC", Variable::Address),
    ("DST", Variable::Unknown),
    ("PORT", Variable::Port),
    ("PROTO", Variable::Protocol),
    ("TIMEOUT", Variable::Unknown),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::import::fwknop::ports::Protocol;

    #[test]
    fn a_command_is_cut_as_fwknopd_cuts_it_and_quoted_for_the_shell() {
        let port = Some(Port { protocol: Protocol::Tcp, number: 80 });
        let words = [
            ("$IP", "\"$1\""),
            ("$SRC/32", "\"$1\"'/32'"),
            ("-p$PROTO", "'-p'6"),
            ("\"a", "'\"a'"),
            ("it's", r"'it'\''s'"),
            ("`x`;$(y)", "'`x`;''(y)'"),
            ("$HOME", "'HOME'"),
            ("a$PORTb", "'a'80'b'"),
            ("$", "''"),
        ];
        for (word, expected) in words {
            assert_eq!(quoted(word, port).as_deref(), Ok(expected), "{word}");
        }
        assert!(quoted("$PORT", None).unwrap_err().contains("several ports"));
        for unknown in ["$TIMEOUT", "-t$CLIENT_TIMEOUT", "$DST"] {
            assert!(quoted(unknown, port).is_err(), "{unknown}");
        }
        assert!(script("iptables -A", "x", port).unwrap_err().contains("absolute"));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        let text = script(&format!("{} -c $IP", link.display()), "x", port).unwrap();
        assert!(text.ends_with(&format!("\nexec '{}' '-c' \"$1\"\n", link.display())), "{text}");
    }
}

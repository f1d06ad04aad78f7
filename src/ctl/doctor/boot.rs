//! Whether the rules of the doors are loaded again after a reboot.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::include;

/// Looks at what nftables' own service loads. `root` is `/`.
pub(super) fn look(root: &Path, tables: &BTreeSet<&str>) -> Vec<Finding> {
    let (mut findings, mut named) = (Vec::new(), Vec::new());
    for table in tables {
        if MAIN.iter().any(|main| names(&root.join(main), table, DEPTH)) {
            named.push(format!("inet {table}"));
        } else {
            let what =
                format!("/etc/nftables.conf has no rules of inet {table}: a reboot may leave its ports open");
            let mend =
                "echo 'include \"/etc/siglatch/*.nft\"' >> /etc/nftables.conf; systemctl enable nftables";
            findings.push(Finding::doubt(what, mend));
        }
    }
    if named.is_empty() {
        return findings;
    }
    let named = named.join(", ");
    findings.push(if is_enabled(root) {
        Finding::good(format!("a reboot brings the rules of {named} back"))
    } else {
        let what = format!("nftables.service would load the rules of {named}, and is not enabled");
        Finding::doubt(what, "systemctl enable nftables")
    });
    findings
}

/// Whether a file, or one that it includes, has something of the table. What cannot be read may.
fn names(file: &Path, table: &str, depth: u8) -> bool {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return error.kind() != ErrorKind::NotFound,
    };
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).any(|line| {
        let Some(pattern) = line.strip_prefix("include") else { return line.contains(table) };
        let pattern = pattern.split('"').nth(1).unwrap_or_default();
        let included = include::matches(file, pattern);
        let within = |file: &PathBuf| depth.checked_sub(1).is_some_and(|depth| names(file, table, depth));
        included.map_or(true, |files| files.iter().any(within))
    })
}

/// Where systemd is not, nobody can tell from here.
fn is_enabled(root: &Path) -> bool {
    let wanted = |target: &str| {
        let link = format!("etc/systemd/system/{target}.target.wants/nftables.service");
        root.join(link).symlink_metadata().is_ok()
    };
    !root.join("run/systemd/system").exists()
        || ["sysinit", "multi-user", "network-pre"].into_iter().any(wanted)
}

/// What distributions have nftables' service load.
const MAIN: [&str; 3] = ["etc/nftables.conf", "etc/sysconfig/nftables.conf", "etc/nftables.nft"];

/// How deep includes are followed.
const DEPTH: u8 = 4;

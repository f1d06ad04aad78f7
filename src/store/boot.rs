//! Which boot of the machine this is: a crash is told from a killed process.

/// A boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's random id of this boot; empty if unknown, which counts as a new boot each time.
    pub id: String,
    /// Wall clock at boot, Unix seconds.
    pub time: u64,
}

impl Boot {
    /// Reads /proc. What is hidden there (a unit with `ProcSubset=pid`) is unknown: no id, and `wall` (now) as the time.
    pub fn read(wall: u64) -> Boot {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Boot {
            id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            time: boot_time(&read("/proc/stat")).unwrap_or(wall),
        }
    }
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_is_named_and_lies_in_the_past() {
        let wall = crate::clock::wall().as_secs();
        let boot = Boot::read(wall);
        assert_eq!(boot, Boot::read(wall));
        assert_eq!(boot.id.len(), 36);
        assert!(boot.time <= wall);
    }

    #[test]
    fn a_hidden_boot_time_is_unknown() {
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
        assert_eq!(boot_time("btime soon\n"), None);
    }
}

//! OPEN_PORTS: `tcp/22, udp/51820`.

use std::collections::{BTreeMap, BTreeSet};

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// IANA's, which fwknopd puts for $PROTO.
    pub(super) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl Port {
    pub(super) fn parse(text: &str) -> Result<Port, String> {
        let wrong = || format!("{text:?} is no port, such as tcp/22");
        let (protocol, number) = text.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        let number = number.parse().ok().filter(|number| *number != 0).ok_or_else(wrong)?;
        Ok(Port { protocol, number })
    }
}

/// What a door to these is called: "tcp22-udp51820".
pub(super) fn name(ports: &BTreeSet<Port>) -> String {
    let names: Vec<String> =
        ports.iter().map(|port| format!("{}{}", port.protocol.name(), port.number)).collect();
    let name = names.join("-");
    // nftables takes the name too, and a digit behind it.
    if name.len() <= 48 { name } else { format!("ports{}", ports.len()) }
}

/// The commands that print the rules for these doors: those of one port have to be in one file.
pub(super) fn snippets(doors: &BTreeMap<String, BTreeSet<Port>>, config: &str) -> String {
    let mut by_port: BTreeMap<Port, Vec<&str>> = BTreeMap::new();
    for (name, ports) in doors {
        for port in ports {
            by_port.entry(*port).or_default().push(name);
        }
    }
    let mut by_doors: BTreeMap<Vec<&str>, Vec<Port>> = BTreeMap::new();
    for (port, doors) in by_port {
        by_doors.entry(doors).or_default().push(port);
    }
    let option = |port: &Port| format!(" --{} {}", port.protocol.name(), port.number);
    let line = |doors: &[&str], ports: &str| {
        format!("  siglatchctl firewall snippet {}{ports} --config {config}\n", doors.join(" "))
    };
    let lines = by_doors.iter().map(|(doors, ports)| match doors.as_slice() {
        [_] => line(doors, &ports.iter().map(option).collect::<String>()),
        // Several doors are printed for one port at a time.
        several => ports.iter().map(|port| line(several, &option(port))).collect(),
    });
    lines.collect()
}

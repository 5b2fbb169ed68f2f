//! Segments and datagrams with a wrong checksum.
//!
//! A sender on the same machine leaves checksums to its device (`ethtool -k`: `tx-checksumming: on`). A veth does not
//! compute them, and a frame that an XDP program has sent cannot carry the note that they are missing: the real drops each
//! of these packets, while the balancer counts them as forwarded.

use std::fs;

/// What the kernel has counted, per protocol.
const FILES: [&str; 2] = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"];

/// The kernel's counters of wrong checksums in this network namespace.
#[derive(Debug, Default)]
pub(super) struct ChecksumErrors {
    last: Option<u64>,
}

impl ChecksumErrors {
    /// How many were counted since the last call; 0 at the first.
    pub(super) fn grown(&mut self) -> u64 {
        let mut total = 0;
        for path in FILES {
            // A kernel without IPv6 has no second one.
            total += fs::read_to_string(path).map_or(0, |text| count(&text));
        }
        let before = self.last.replace(total);
        before.map_or(0, |before| total.saturating_sub(before))
    }
}

/// The checksum errors of TCP and UDP in the text of either file: a line of names and a line of values per protocol, or a
/// name and a value per line.
fn count(text: &str) -> u64 {
    let mut total = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(value) = line.strip_prefix("Udp6InCsumErrors") {
            total += value.trim().parse().unwrap_or(0);
        } else if line.starts_with("Tcp:") || line.starts_with("Udp:") {
            let values = lines.next().unwrap_or_default();
            let named = line.split_whitespace().zip(values.split_whitespace());
            total += named
                .filter(|(name, _)| *name == "InCsumErrors")
                .filter_map(|(_, value)| value.parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read() {
        let snmp = "Ip: Forwarding InCsumErrors\nIp: 1 9\nTcp: RtoMin InCsumErrors\nTcp: 200 3\n\
                    Udp: InDatagrams InCsumErrors MemErrors\nUdp: 7 4 0\nUdpLite: InCsumErrors\nUdpLite: 5\n";
        assert_eq!(count(snmp), 7);
        assert_eq!(
            count("Udp6InDatagrams  \t1\nUdp6InCsumErrors  \t2\nUdpLite6InCsumErrors 3\n"),
            2
        );
        assert_eq!(count(""), 0);
    }
}

//! What the kernel tells of a process.

use std::{fs, sync::OnceLock};

/// A process, as `/proc/PID/stat` has it (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is no zombie.
    pub is_alive: bool,
    /// Its session.
    pub session: u32,
    /// When it started, in ticks since boot: with its number it names one process for ever.
    pub started: u64,
}

/// The process with this number; `None` if there is none.
pub fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<Stat> {
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // Field 3 is the first one here.
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(Stat {
        is_alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Names this boot of the machine.
pub fn boot_id() -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    BOOT.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let text = "7 (a) Z) S 1 7 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 50 18446744";
        let stat = parse(text).unwrap();
        assert_eq!(
            (stat.is_alive, stat.session, stat.started),
            (true, 6, 12_345)
        );
        assert!(!parse(&text.replace(" S 1", " Z 1")).unwrap().is_alive);
        let own = super::stat(std::process::id()).unwrap();
        assert!(own.is_alive && own.started > 0);
        assert_eq!(super::stat(u32::MAX), None);
        assert_eq!(boot_id().len(), 36);
    }
}

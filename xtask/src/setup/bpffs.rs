//! The file system in which programs and maps outlive the agent.

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::Prerequisite;

const PLACE: &str = "/sys/fs/bpf";

pub(super) struct BpfFileSystem;

impl Prerequisite for BpfFileSystem {
    fn name(&self) -> &'static str {
        "bpffs"
    }

    fn why(&self) -> &'static str {
        "pinned programs and maps go on forwarding while the agent is restarted"
    }

    fn check(&self) -> Result<String, String> {
        match statfs(PLACE) {
            Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(format!("mounted on {PLACE}")),
            Ok(_) => Err(format!("not mounted on {PLACE}")),
            Err(error) => Err(format!("{PLACE}: {error}")),
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        println!("    $ mount -t bpf bpf {PLACE}");
        mount(
            Some("bpf"),
            PLACE,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            None::<&str>,
        )
        .with_context(|| format!("mounting bpffs on {PLACE}"))
    }
}

//! The BPF file system, in which programs and maps outlive the agent.

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::Prerequisite;

const MOUNT_POINT: &str = "/sys/fs/bpf";

pub(super) struct BpfFileSystem;

impl Prerequisite for BpfFileSystem {
    fn name(&self) -> &'static str {
        "bpffs"
    }

    fn why(&self) -> &'static str {
        "pinned programs and maps keep forwarding while the agent restarts"
    }

    fn check(&self) -> Result<String, String> {
        match statfs(MOUNT_POINT) {
            Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => {
                Ok(format!("mounted on {MOUNT_POINT}"))
            }
            Ok(_) => Err(format!("not mounted on {MOUNT_POINT}")),
            Err(error) => Err(format!("{MOUNT_POINT}: {error}")),
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        println!("    $ mount -t bpf bpf {MOUNT_POINT}");
        mount(
            Some("bpf"),
            MOUNT_POINT,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            None::<&str>,
        )
        .with_context(|| format!("mounting bpffs on {MOUNT_POINT}"))
    }
}

//! The disk of the state directory is full.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use lb_tests::{AgentOptions, Testbed, client::get, server::Nginx, vip_target, wait_for};
use serde_json::Value;

use crate::fixture::PATIENCE;

const VIP: &str = "192.0.2.10:80/tcp";

/// A small file system in memory. It is unmounted in the end, though it may still be in use.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "lb-small-disk"]);
        assert!(mount.arg(folder).status().unwrap().success());
        Self(folder.to_owned())
    }

    /// Writes a file until there is no room left; returns its path.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).unwrap();
        let block = [1; 4096];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return path,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn warnings(testbed: &Testbed<Nginx>) -> anyhow::Result<Value> {
    Ok(testbed.agent.ctl_json("status")?["warnings"].clone())
}

pub fn a_full_disk_refuses_changes_and_nothing_else() {
    let mut testbed = Testbed::<Nginx>::new(1, &[VIP], AgentOptions::default()).unwrap();
    let all: Vec<_> = testbed.backends.iter().collect();
    testbed.add_service(VIP, &[], &all).unwrap();
    testbed.agent.stop().unwrap();
    let state = testbed.agent.state();
    let aside = state.with_extension("aside");
    fs::rename(&state, &aside).unwrap();
    fs::create_dir(&state).unwrap();
    let disk = SmallDisk::mount(&state);
    for file in fs::read_dir(&aside).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), state.join(file.file_name())).unwrap();
    }
    testbed.agent.run().unwrap();

    let filler = disk.fill();
    let mut accepted = 1;
    // The file of the database has some room of its own.
    let refused = (1..3_000_u16)
        .find_map(|port| {
            let added = testbed.agent.ctl(&format!("add-vip 192.0.2.99:{port}/tcp"));
            accepted += usize::from(added.is_ok());
            added.err()
        })
        .unwrap();
    println!("after {accepted}: {refused:#}");
    wait_for("a warning", PATIENCE, || {
        let warnings = warnings(&testbed)?.to_string();
        Ok(warnings.contains("changes are refused").then_some(()))
    })
    .unwrap();
    wait_for("an answer of the VIP", PATIENCE, || {
        get(&testbed.client, vip_target(VIP)?, "/").map(Some)
    })
    .unwrap();

    fs::remove_file(filler).unwrap();
    wait_for("a change to be accepted", PATIENCE, || {
        testbed.agent.ctl("add-vip 192.0.2.98:1/tcp").map(Some)
    })
    .unwrap();
    accepted += 1;
    wait_for("the warning's end", PATIENCE, || {
        let warnings = warnings(&testbed)?.to_string();
        Ok((!warnings.contains("changes are refused")).then_some(()))
    })
    .unwrap();
    // What was acknowledged is there, and nothing else.
    testbed.agent.kill().unwrap();
    testbed.agent.run().unwrap();
    let list = testbed.agent.ctl_json("list").unwrap();
    assert_eq!(list.as_array().unwrap().len(), accepted);
    drop(testbed);
    drop(disk);
}

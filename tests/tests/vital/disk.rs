//! The file system of the state directory is full.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use lb_tests::{
    AgentOptions,
    client::{Connections, HttpPlan, Load, http_load},
    vip_target, wait_for,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::fixture::{PATIENCE, VIP, Web, serving, wait_served, wait_warning};

/// The size of the file system. A database has 1.5 MiB from the start, and is rewritten beside itself.
const SIZE: &str = "size=16m";
/// Bytes of a block.
const BLOCK: usize = 4_096;

/// Runs a test in a mount namespace of its own, in which its children run as well. What it mounts ends with it, however it
/// ends.
fn with_own_mounts(test: fn()) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A small file system in memory in the place of a folder, with the folder's files.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn remount(&self, flags: MsFlags) {
        let flags = MsFlags::MS_REMOUNT | flags;
        mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may still be in use.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn move_to_small_disk(folder: &Path) -> SmallDisk {
    let files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let content = fs::read(&path).unwrap();
            (path, content)
        })
        .collect();
    let source = Some("lb-small-disk");
    mount(source, folder, Some("tmpfs"), MsFlags::empty(), Some(SIZE)).unwrap();
    let disk = SmallDisk(folder.to_owned());
    for (path, content) in files {
        write_with_holes(&path, &content);
    }
    disk
}

/// Writes a file without its empty blocks, which take no room: a database has many of them, and could take many changes
/// before it needs more room.
fn write_with_holes(path: &Path, content: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (number, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (number * BLOCK) as u64).unwrap();
        }
    }
}

/// Writes to a file until there is no room left.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    let block = [1; BLOCK];
    loop {
        match filler.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The VIPs of the agent.
fn vips(testbed: &Web) -> BTreeSet<String> {
    let list = testbed.agent.ctl_json("list").unwrap();
    let vips = list.as_array().unwrap().iter();
    vips.map(|vip| vip["vip"].as_str().unwrap().to_owned())
        .collect()
}

/// Clients that open a connection for each request.
fn traffic(testbed: &Web) -> Load {
    let target: SocketAddr = vip_target(VIP).unwrap();
    let plan = HttpPlan {
        target,
        workers: 4,
        connections: Connections::New,
        pause: Duration::from_millis(20),
        requests: None,
    };
    http_load(&testbed.client, plan)
}

fn refused_for_lack_of_room(testbed: &Web, vip: &str) -> bool {
    let Err(error) = testbed.agent.ctl(&format!("add-vip {vip}")) else {
        return false;
    };
    let text = format!("{error:#}");
    for words in [
        "intent.redb",
        "No space left",
        "nothing was changed",
        "see that the state directory has room",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    true
}

pub fn a_full_disk_refuses_changes_and_nothing_else() {
    with_own_mounts(|| {
        let mut testbed = serving(1, AgentOptions::default());
        testbed.agent.stop().unwrap();
        let state = testbed.agent.state();
        let disk = move_to_small_disk(&state);
        testbed.agent.run().unwrap();
        wait_served(&testbed);
        let load = traffic(&testbed);
        let mut acknowledged = vips(&testbed);

        let filler = state.join("filler");
        fill(&filler);
        // The file of the database may have some room of its own.
        let mut names = (1..=u16::MAX).map(|port| format!("192.0.2.99:{port}/tcp"));
        let refused = names
            .find(|vip| {
                let refused = refused_for_lack_of_room(&testbed, vip);
                if !refused {
                    acknowledged.insert(vip.clone());
                }
                refused
            })
            .unwrap();
        assert_eq!(
            vips(&testbed),
            acknowledged,
            "a refusal has changed nothing"
        );
        let warning = wait_warning(&testbed, "changes are refused");
        assert!(
            warning.contains("No space left") && warning.contains("lbctl backup"),
            "{warning}"
        );
        assert!(refused_for_lack_of_room(&testbed, &refused));
        // What the agent knows can be saved elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("copy");
        let backup = format!("backup {}", copy.display());
        testbed.agent.ctl(&backup).unwrap();
        let copied = fs::read_to_string(&copy).unwrap();
        assert!(acknowledged.iter().all(|vip| copied.contains(vip.as_str())));
        load.wait_requests(100, PATIENCE).unwrap();

        // An agent that starts on the full disk serves what was acknowledged.
        testbed.agent.kill().unwrap();
        testbed.agent.run().unwrap();
        assert_eq!(vips(&testbed), acknowledged);
        load.wait_requests(100, PATIENCE).unwrap();
        assert!(refused_for_lack_of_room(&testbed, &refused));

        fs::remove_file(filler).unwrap();
        wait_for("a change to be accepted", PATIENCE, || {
            testbed.agent.ctl(&format!("add-vip {refused}")).map(Some)
        })
        .unwrap();
        acknowledged.insert(refused);
        let status = testbed.agent.ctl_json("status").unwrap();
        assert_eq!(status["warnings"], serde_json::json!([]));
        assert_eq!(vips(&testbed), acknowledged);
        testbed.agent.kill().unwrap();

        // A file system that became read-only refuses the start, and says so.
        disk.remount(MsFlags::MS_RDONLY);
        let refused = format!("{:#}", testbed.agent.run().unwrap_err());
        for words in ["intent.redb", "Read-only file system", "--state"] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        load.wait_requests(100, PATIENCE).unwrap();
        disk.remount(MsFlags::empty());
        testbed.agent.run().unwrap();
        assert_eq!(vips(&testbed), acknowledged);
        load.wait_requests(100, PATIENCE).unwrap();
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{:?}", report.errors);
    });
}

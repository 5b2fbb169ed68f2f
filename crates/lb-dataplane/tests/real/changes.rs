//! The changes of a host that becomes a real, and that exactly these are undone.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use lb_dataplane::real::{Mode, Options, Real};

use crate::{
    fixture::{VIP4, VIP6, address, both, fingerprint, host_setting, setting, wait_unchanged},
    testbed::{INTERFACE, PATIENCE, Testbed, ip, run},
};

/// Returns the folder that a real of this network namespace uses by default.
fn default_folder() -> PathBuf {
    let namespace = fs::metadata("/proc/thread-self/ns/net").unwrap();
    PathBuf::from(format!("/run/lb-agent/real-{}", namespace.ino()))
}

pub fn a_strict_reverse_path_filter_becomes_loose_and_strict_again() {
    run(async |bed: &Testbed| {
        for (all, own, wanted) in [
            ("1", "0", "2"),
            ("0", "1", "2"),
            ("0", "0", "0"),
            ("2", "1", "1"),
        ] {
            fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", all).unwrap();
            fs::write(
                format!("/proc/sys/net/ipv4/conf/{INTERFACE}/rp_filter"),
                own,
            )
            .unwrap();
            let before = fingerprint();
            let real = Real::set_up(&bed.options(&both())).await.unwrap();
            assert_eq!(
                setting(INTERFACE, "rp_filter"),
                wanted,
                "all {all}, own {own}"
            );
            assert_eq!(
                (setting("all", "arp_ignore"), setting("all", "arp_announce")),
                ("1".into(), "2".into())
            );
            real.finish().await.unwrap();
            wait_unchanged(&before);
        }
    });
}

pub fn path_mtus_are_probed_in_every_mode_and_never_less_than_before() {
    run(async |bed: &Testbed| {
        for (before, wanted) in [("0", "1"), ("1", "1"), ("2", "2")] {
            for mode in [Mode::Ipip, Mode::L2] {
                fs::write("/proc/sys/net/ipv4/tcp_mtu_probing", before).unwrap();
                let options = Options {
                    mode,
                    ..bed.options(&both())
                };
                let unchanged = fingerprint();
                let real = set_up_after_another(&options).await;
                assert_eq!(host_setting("tcp_mtu_probing"), wanted, "{mode:?}");
                assert!(real.warnings().is_empty(), "{:?}", real.warnings());
                real.finish().await.unwrap();
                wait_unchanged(&unchanged);
            }
        }
    });
}

/// Sets up a real as soon as the lock and the programs of a dropped one are free; see [`wait_unchanged`].
async fn set_up_after_another(options: &Options) -> Real {
    let began = Instant::now();
    loop {
        match Real::set_up(options).await {
            Ok(real) => return real,
            Err(error) if began.elapsed() < PATIENCE => {
                let error = format!("{error:#}");
                let held = ["another `lb-agent real`", "attaching decap"];
                assert!(held.iter().any(|part| error.contains(part)), "{error}");
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error:#}"),
        }
    }
}

pub fn what_a_killed_process_left_is_undone_by_the_next() {
    run(async |bed: &Testbed| {
        // An address that was there before is not ours to remove.
        ip(&format!("addr add {VIP6}/128 dev lo nodad"));
        fs::write(
            format!("/proc/sys/net/ipv4/conf/{INTERFACE}/rp_filter"),
            "1",
        )
        .unwrap();
        let before = fingerprint();
        let first = Real::set_up(&bed.options(&both())).await.unwrap();
        let refused = Real::set_up(&bed.options(&both()))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains("another `lb-agent real` runs"),
            "{refused}"
        );
        // When a process is killed, the kernel releases its lock and its links, and nothing else. `drop` does the same.
        drop(first);
        assert!(ip("addr show dev lo").contains(VIP4));
        assert_eq!(setting("all", "arp_ignore"), "1");

        let other = address("192.0.2.11");
        let second = set_up_after_another(&bed.options(&[other])).await;
        assert!(
            second.warnings()[0].contains("were undone now"),
            "{:?}",
            second.warnings()
        );
        let addresses = ip("addr show dev lo");
        assert!(
            addresses.contains("192.0.2.11") && !addresses.contains(VIP4),
            "{addresses}"
        );
        second.finish().await.unwrap();
        wait_unchanged(&before);
    });
}

pub fn what_an_earlier_boot_left_is_neither_read_nor_kept() {
    run(async |bed: &Testbed| {
        // A power failure may leave any part of a file.
        let folder = bed.state_folder();
        fs::create_dir_all(&folder).unwrap();
        for name in [
            "changes-of-another-boot.json",
            "changes-of-another-boot.new",
        ] {
            fs::write(folder.join(name), "").unwrap();
        }
        let before = fingerprint();
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        assert!(real.warnings().is_empty(), "{:?}", real.warnings());
        real.finish().await.unwrap();
        wait_unchanged(&before);
        let left = fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 1, "the lock alone");
    });
}

pub fn what_others_changed_meanwhile_is_left_alone() {
    run(async |bed: &Testbed| {
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "2").unwrap();
        ip(&format!("addr del {VIP4}/32 dev lo"));
        real.finish().await.unwrap();
        assert_eq!(setting("all", "arp_ignore"), "2");
        assert_eq!(setting("all", "arp_announce"), "0");
    });
}

pub fn a_failure_half_way_leaves_nothing() {
    run(async |bed: &Testbed| {
        ip("link set lo down");
        let before = fingerprint();
        let missing = Options {
            interfaces: vec!["lbnone0".into()],
            ..bed.options(&both())
        };
        let error = format!("{:#}", Real::set_up(&missing).await.err().unwrap());
        assert!(error.contains("lbnone0"), "{error}");
        // No program can be attached where there is one already.
        let other = Real::set_up(&Options {
            state: None,
            ..bed.options(&both())
        })
        .await
        .unwrap();
        let between = fingerprint();
        let error = format!(
            "{:#}",
            Real::set_up(&bed.options(&[address("192.0.2.11")]))
                .await
                .err()
                .unwrap()
        );
        assert!(error.contains("attaching decap"), "{error}");
        assert_eq!(fingerprint(), between);
        other.finish().await.unwrap();
        wait_unchanged(&before);
        fs::remove_dir_all(default_folder()).unwrap();
    });
}

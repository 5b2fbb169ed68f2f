//! What others take away from a real that runs.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use lb_dataplane::real::{Options, Real};

use crate::{
    fixture::{VIP4, VIP6, both, fingerprint, setting, wait_unchanged},
    testbed::{INTERFACE, PATIENCE, Testbed, ip, run},
};

/// Looks after a real until nothing is wrong.
async fn well(real: &mut Real) {
    let began = Instant::now();
    loop {
        let problems = real.look_after().await;
        if problems.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{problems:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn has_program(interface: &str) -> bool {
    ip(&format!("-details link show {interface}")).contains("prog/xdp")
}

pub fn an_interface_that_is_recreated_gets_its_program_back() {
    run(async |bed: &Testbed| {
        let own = format!("/proc/sys/net/ipv4/conf/{INTERFACE}/rp_filter");
        fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "1").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        fs::write(&own, "1").unwrap();
        let mut real = Real::set_up(&bed.options(&both())).await.unwrap();
        well(&mut real).await;
        assert!(has_program(INTERFACE));
        ip(&format!("link del {INTERFACE}"));
        let problems = real.look_after().await.join("\n");
        assert!(
            problems.contains(INTERFACE) && problems.contains("is gone"),
            "{problems}"
        );
        ip(&format!("link add {INTERFACE} type veth peer name other0"));
        ip(&format!("link set {INTERFACE} up"));
        well(&mut real).await;
        assert!(has_program(INTERFACE));
        // The new interface is strict by default, and so is the kernel's own setting of it.
        assert_eq!(setting(INTERFACE, "rp_filter"), "2");
        // The counters go on.
        assert_eq!(real.counters().unwrap().len(), 1);
        real.finish().await.unwrap();
        assert_eq!(setting(INTERFACE, "rp_filter"), "1");
        assert!(!has_program(INTERFACE));
    });
}

pub fn an_interface_that_is_missing_is_waited_for() {
    run(async |bed: &Testbed| {
        let options = Options {
            interfaces: vec![INTERFACE.to_owned(), "later0".to_owned()],
            strict_interfaces: false,
            ..bed.options(&both())
        };
        let mut real = Real::set_up(&options).await.unwrap();
        assert!(
            real.warnings()
                .iter()
                .any(|text| text.contains("later0 is missing"))
        );
        assert!(has_program(INTERFACE), "the other serves");
        let problems = real.look_after().await.join("\n");
        assert!(problems.contains("later0"), "{problems}");
        ip("link add later0 type veth peer name other0");
        well(&mut real).await;
        assert!(has_program("later0"));
        real.finish().await.unwrap();
    });
}

pub fn addresses_and_settings_are_restored() {
    run(async |bed: &Testbed| {
        let before = fingerprint();
        let mut real = Real::set_up(&bed.options(&both())).await.unwrap();
        ip(&format!("addr del {VIP4}/32 dev lo"));
        ip(&format!("addr del {VIP6}/128 dev lo"));
        fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "0").unwrap();
        well(&mut real).await;
        let addresses = ip("addr show dev lo");
        assert!(
            addresses.contains(VIP4) && addresses.contains(VIP6),
            "{addresses}"
        );
        assert_eq!(setting("all", "arp_ignore"), "1");
        real.finish().await.unwrap();
        wait_unchanged(&before);
    });
}

//! Signals.

use lb_tests::{AgentOptions, Real};
use nix::sys::signal::Signal;

use crate::fixture::{VIP, Web};

pub fn sighup_ends_a_real_in_order() {
    let mut testbed = Web::new(1, &[VIP], AgentOptions::default()).unwrap();
    let host = testbed.backends[0].host.clone();
    let addresses = || host.sh("ip -o address show dev lo").unwrap();
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        assert!(addresses().contains("192.0.2.10/32"));
        assert_eq!(
            host.sysctl_value("net/ipv4/conf/all/arp_ignore").unwrap(),
            "1"
        );
        let real = testbed.backends[0].real.take().unwrap();
        let (status, output) = real.end_by(signal).unwrap();
        assert!(status.success(), "{signal}: {status}: {output}");
        assert!(!addresses().contains("192.0.2.10"), "{signal}");
        assert_eq!(
            host.sysctl_value("net/ipv4/conf/all/arp_ignore").unwrap(),
            "0"
        );
        let link = host.sh("ip -details link show eth0").unwrap();
        assert!(!link.contains("prog/xdp"), "{link}");
        testbed.backends[0].real = Some(Real::start(&host, "eth0", &[VIP]).unwrap());
    }
}

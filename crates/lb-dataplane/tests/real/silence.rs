//! A real does not answer its neighbours for the VIPs.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use lb_dataplane::real::{Mode, Options, Real};

use crate::{
    fixture::{VIP4, VIP6, address, both, listen, udp},
    testbed::{CLIENT_MAC, INTERFACE, REAL_MAC, Testbed, ip, run},
};

/// Sends an ARP request for an address and returns whether the real's interface answers.
fn answers(bed: &Testbed, target: [u8; 4]) -> bool {
    let request = |target: [u8; 4]| {
        let mut frame = [
            &[0xFF; 6][..],
            &CLIENT_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &CLIENT_MAC,
        ]
        .concat();
        frame.extend([10, 9, 0, 1, 0, 0, 0, 0, 0, 0]);
        frame.extend(target);
        frame
    };
    // The request for the real's own address comes second: when its answer arrives, an answer to the first would have.
    bed.send(&request(target));
    bed.send(&request([10, 9, 0, 2]));
    let mut answered = Vec::new();
    while answered.last() != Some(&[10, 9, 0, 2]) {
        answered.push(bed.receive("ARP reply", |frame| {
            let reply = frame.get(12..14)? == [8, 6] && frame.get(20..22)? == [0, 2];
            reply.then(|| frame[28..32].try_into().unwrap())
        }));
    }
    answered.contains(&target)
}

pub fn a_real_of_mode_l2_has_the_vip_and_is_silent_about_it() {
    run(async |bed: &Testbed| {
        let options = Options {
            mode: Mode::L2,
            ..bed.options(&both())
        };
        let vip = [192, 0, 2, 10];
        ip(&format!("addr add {VIP4}/32 dev lo"));
        assert!(
            answers(bed, vip),
            "without silence the VIP would be answered for"
        );
        let real = Real::set_up(&options).await.unwrap();
        assert!(!answers(bed, vip));
        assert!(!ip(&format!("link show {INTERFACE}")).contains("xdp"));
        let (socket, port) = listen(address(VIP4));
        bed.send(
            &[
                &REAL_MAC[..],
                &CLIENT_MAC,
                &[8, 0],
                &udp(address(VIP4), port, b"l2"),
            ]
            .concat(),
        );
        let mut buffer = [0; 10];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 2);
        assert_eq!(real.counters().unwrap(), []);
        real.finish().await.unwrap();
        assert!(answers(bed, vip));
    });
}

pub fn neighbour_discovery_is_silent_by_itself() {
    run(async |bed: &Testbed| {
        let real = Real::set_up(&bed.options(&both())).await.unwrap();
        bed.enter_client();
        ip(&format!("route add {VIP6}/128 dev lbclient0"));
        let probe = UdpSocket::bind("[fd00:9::1]:0").unwrap();
        probe.send_to(b"x", (address(VIP6), 9)).unwrap();
        let solicited = |frame: &[u8]| {
            let solicitation = frame.get(12..14)? == [0x86, 0xDD] && frame.get(54)? == &135;
            solicitation.then_some(())
        };
        bed.receive("neighbour solicitation", solicited);
        // The client's kernel gives up after its retries. Only then is it certain that there was no answer.
        let gives_up = Instant::now();
        while !ip("neigh show dev lbclient0").contains("FAILED") {
            assert!(
                gives_up.elapsed() < Duration::from_secs(20),
                "{}",
                ip("neigh show dev lbclient0")
            );
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!ip(&format!("neigh show {VIP6} dev lbclient0")).contains("lladdr"));
        bed.enter_real();
        real.finish().await.unwrap();
    });
}

//! Tests of the suite itself: a table that is not read, an encoder that is wrong or a comparison that sees nothing would
//! make every case worthless.

use std::fs;

use etherparse::PacketBuilder;
use lb_common::reason::{Reason, Verdict};

use crate::{
    TABLES,
    decode::decode,
    encode::encode,
    folder,
    notation::Packet,
    planes::Outcome,
    run::compare,
    table,
    table::{Expected, Step, read},
};

/// Fewer cases than there are by far: some were lost.
const MIN_CASES: usize = 400;

pub fn every_table_is_read_and_listed() {
    let mut cases = 0;
    for name in TABLES {
        let table = table(name);
        println!("{}: {} cases", table.file, table.cases.len());
        cases += table.cases.len();
    }
    println!("{cases} cases in all");
    assert!(cases >= MIN_CASES, "only {cases} cases");
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            TABLES.contains(&name),
            "{} is not in the list of main.rs",
            path.display()
        );
    }
}

/// The frames of all tables whose values are all given.
fn frames() -> Vec<(String, Packet)> {
    let mut frames = Vec::new();
    for name in TABLES {
        let table = table(name);
        for step in table.cases.into_iter().flat_map(|case| case.steps) {
            if let Step::Frame {
                line,
                frame,
                expected,
            } = step
            {
                let at = format!("{}:{line}", table.file);
                let packets = [Some(frame), expected.out].into_iter().flatten();
                frames.extend(packets.map(|packet| (at.clone(), packet)));
            }
        }
    }
    frames
}

pub fn every_frame_can_be_described() {
    for (at, packet) in frames() {
        // `encode` fails for values that may be any.
        let Ok(bytes) = encode(&packet, None) else {
            continue;
        };
        let text = decode(&bytes).to_string();
        let again = text
            .parse::<Packet>()
            .and_then(|packet| encode(&packet, None));
        assert_eq!(again, Ok(bytes), "{at}: {packet} is described as {text}");
        let read = packet.to_string().parse::<Packet>();
        assert_eq!(read, Ok(packet), "{at}");
    }
}

pub fn what_is_wrong_in_a_table_is_said_with_its_line() {
    const HEAD: &str = "vip 10.0.0.1:80/tcp ipip\n  real 10.1.0.2\ncase one\n";
    const IN: &str = "  in eth router > lb / ip 10.0.0.9 > 10.0.0.1 / tcp 1 > 80 S\n";
    let rows = [
        (
            "  in eth router > nobody\n",
            "t:4: `nobody` is not a station",
        ),
        (
            "  in eth router lb\n",
            "t:4: `>` should stand where `lb` is",
        ),
        (
            "  in ip 10.0.0.1 > ::1\n",
            "t:4: the addresses are of two families",
        ),
        (
            "  in ip 10.0.0.1 > 10.0.0.2 hops 3\n",
            "t:4: `hops` is no field of this layer; it has ttl",
        ),
        (
            "  in ip 10.0.0.1 > 10.0.0.2 ttl x\n",
            "t:4: `x` is no value of `ttl`",
        ),
        (
            "  in tcp 1 > 80\n",
            "t:4: `tcp 1 > 80` ends where the flags of TCP",
        ),
        ("  in tcp 1 > 80 SX\n", "t:4: `SX` are not flags of TCP"),
        (
            "  in tcp 1 > 80 S options abc\n",
            "t:4: `abc` are not hexadecimal digits",
        ),
        ("  in igmp 1\n", "t:4: `igmp` is no layer"),
        (
            "  in icmp what\n",
            "t:4: `what` is no message of ICMP that has a name here",
        ),
        (
            "  in 10 byte\n",
            "t:4: `bytes` should stand where `byte` is",
        ),
        ("  tx forwarded_tx\n", "t:4: `tx` belongs to an `in`"),
        ("  out 10 bytes\n", "t:4: `out` belongs to an `in`"),
        ("  send 10 bytes\n", "t:4: `send` begins no line"),
        (
            "  down 10.1.0.2 soon\n",
            "t:4: `soon` is none of rehash, reset, keep",
        ),
        ("case two\n", "t:3: the case has no `in`"),
        ("", "t:3: the case has no `in`"),
        ("case one\n", "t:4: there is a case `one` already"),
        (
            "  real 10.1.0.3 fast\n",
            "t:4: a real has no setting `fast`",
        ),
        (
            "vip 10.0.0.2:80/tcp tunnel\n",
            "t:4: `tunnel` is none of ipip, l2, gue, nat",
        ),
        (
            "vip 10.0.0.2:80/tcp ipip often\n",
            "t:4: a VIP has no setting `often`",
        ),
        ("vip 10.0.0.2:80 ipip\n", "t:4: `10.0.0.2:80` is not a VIP"),
        (
            "balancer outer5 10.0.0.1/32\n",
            "t:4: a balancer has no setting `outer5`",
        ),
    ];
    for (lines, expected) in rows {
        let error = read("t", &format!("{HEAD}{lines}")).err();
        let error = error.unwrap_or_else(|| panic!("{lines} is read"));
        assert!(error.starts_with(expected), "{lines}: {error}");
    }
    let rows = [
        ("", "t:4: what becomes of the frame"),
        ("  drop no_luck\n", "t:5: `no_luck` is no reason"),
        (
            "  pass no_real\n",
            "t:5: a frame with the reason no_real has another fate than pass",
        ),
        (
            "  drop no_real soon\n",
            "t:5: `soon` is too much in this line",
        ),
        (
            "  tx forwarded_tx\n",
            "t:5: a frame that is sent has an `out`",
        ),
        (
            "  drop no_real\n  out 10 bytes\n",
            "t:6: a frame that is dropped has no `out`",
        ),
    ];
    for (lines, expected) in rows {
        let error = read("t", &format!("{HEAD}{IN}{lines}")).err();
        let error = error.unwrap_or_else(|| panic!("{lines} is read"));
        assert!(error.starts_with(expected), "{lines}: {error}");
    }
    let rows = [
        ("pad 4 / 10 bytes", "stand at the end"),
        ("10 bytes / cut 11", "has 10 bytes and cannot be cut to 11"),
        ("ip ::1 > ::2 / destination len 12", "a multiple of 8 bytes"),
        ("ip 10.0.0.1 > 10.0.0.2 offset 12", "a multiple of 8 bytes"),
        ("icmp echo 1 1 quoting 9", "there are 0 bytes to quote"),
        ("udp 1-9 > 80", "only `out` can leave a value open"),
    ];
    for (text, expected) in rows {
        let error = encode(&text.parse().unwrap(), None).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Frames of etherparse, which many programs use, and of this suite.
pub fn the_encoder_writes_what_another_one_writes() {
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const LB: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const CLIENT4: [u8; 4] = [198, 51, 100, 7];
    const VIP4: [u8; 4] = [10, 0, 0, 1];
    let address6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let (client6, vip6) = (address6("2001:db8:7::7"), address6("2001:db8::1"));
    let payload: Vec<u8> = (0..11).collect();
    let mut rows = Vec::new();
    let mut row = |text: &'static str, build: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        build(&mut bytes);
        rows.push((text, bytes));
    };
    row(
        "eth router > lb / ip 198.51.100.7 > 10.0.0.1 ttl 61 df / tcp 40000 > 80 PA seq 7 ack 9 win 500 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB)
                .ipv4(CLIENT4, VIP4, 61)
                .tcp(40_000, 80, 7, 500)
                .ack(9)
                .psh();
            built.write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / ip 198.51.100.7 > 10.0.0.1 ttl 9 df / udp 40000 > 53 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB).ipv4(CLIENT4, VIP4, 9);
            built.udp(40_000, 53).write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / ip 2001:db8:7::7 > 2001:db8::1 ttl 9 / tcp 40000 > 80 S seq 7 win 500 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB).ipv6(client6, vip6, 9);
            let built = built.tcp(40_000, 80, 7, 500).syn();
            built.write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / ip 2001:db8:7::7 > 2001:db8::1 ttl 9 / udp 40000 > 53 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB).ipv6(client6, vip6, 9);
            built.udp(40_000, 53).write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / ip 198.51.100.7 > 10.0.0.1 ttl 9 df / icmp echo 258 772 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB).ipv4(CLIENT4, VIP4, 9);
            let built = built.icmpv4_echo_request(258, 772);
            built.write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / ip 2001:db8:7::7 > 2001:db8::1 ttl 9 / icmp echo 258 772 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB).ipv6(client6, vip6, 9);
            let built = built.icmpv6_echo_request(258, 772);
            built.write(bytes, &payload).unwrap();
        },
    );
    row(
        "eth router > lb / vlan 258 / ip 198.51.100.7 > 10.0.0.1 ttl 9 df / udp 40000 > 53 / 11 bytes",
        &|bytes| {
            let built = PacketBuilder::ethernet2(ROUTER, LB)
                .single_vlan(etherparse::VlanId::try_new(258).unwrap())
                .ipv4(CLIENT4, VIP4, 9);
            built.udp(40_000, 53).write(bytes, &payload).unwrap();
        },
    );
    for (text, expected) in rows {
        let bytes = encode(&text.parse().unwrap(), None).unwrap();
        assert_eq!(bytes, expected, "{text}; etherparse: {}", decode(&expected));
    }
    // The example of RFC 3720, appendix B.4: 32 zeros.
    let zeros = "sctp 0 > 0 data len 0 sum 0 / hex 00000000 00000000 00000000 00000000";
    let zeros: Packet = zeros.parse().unwrap();
    assert_eq!(encode(&zeros, None).unwrap(), [0; 32]);
    let summed = "sctp 0 > 0 data len 0 / hex 00000000 00000000 00000000 00000000";
    let summed = encode(&summed.parse().unwrap(), None).unwrap();
    assert_eq!(summed[8..12], [0xAA, 0x36, 0x91, 0x8A]);
}

pub fn a_failure_shows_both_frames() {
    let frame = |text: &str| text.parse::<Packet>().unwrap();
    let sent = encode(&frame("eth router > lb / 4 bytes"), None).unwrap();
    let expected = |text: Option<&str>| Expected {
        verdict: Verdict::Tx,
        reason: Reason::ForwardedTx,
        out: text.map(frame),
    };
    let outcome = |frame: &[u8]| Outcome {
        verdict: Verdict::Tx,
        reason: Reason::ForwardedTx,
        frame: frame.to_vec(),
    };
    assert_eq!(compare(&sent, &expected(None), &outcome(&sent)), Ok(()));
    let error = compare(
        &sent,
        &expected(Some("eth lb > real / udp 1 > 2")),
        &outcome(&sent),
    );
    let error = error.unwrap_err();
    for part in [
        "expected eth lb > real / udp 1 > 2",
        "got      eth router > lb / 4 bytes",
        "got      02000000000202000000000188b500010203",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // One bit of a frame that should be as it was.
    let mut other = sent.clone();
    other[17] ^= 1;
    assert!(compare(&sent, &expected(None), &outcome(&other)).is_err());
    let error = compare(
        &sent,
        &expected(None),
        &Outcome {
            verdict: Verdict::Drop,
            reason: Reason::NoReal,
            frame: sent.clone(),
        },
    );
    assert!(error.unwrap_err().contains("got      Drop no_real"));
    // A value that may be any is one of a range.
    let open = expected(Some("eth lb > real / udp 100-199 > 2"));
    let with_port = |port: u16| {
        let text = format!("eth lb > real / udp {port} > 2");
        outcome(&encode(&frame(&text), None).unwrap())
    };
    assert_eq!(compare(&sent, &open, &with_port(150)), Ok(()));
    assert!(compare(&sent, &open, &with_port(200)).is_err());
}

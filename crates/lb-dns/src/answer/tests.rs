//! Answers as bytes.

use std::{collections::BTreeSet, net::Ipv4Addr};

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;
use crate::{
    Addresses, Counts,
    zone::tests::{addresses, record, spec},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// A zone and what answers for it.
struct Testbed {
    zone: Zone,
    counters: Counters,
    transfer: Vec<IpNet>,
}

impl Testbed {
    fn new() -> Self {
        let mut zone = Zone::new(&spec(), Serial::new(7));
        zone.set(
            &record("web.shop"),
            &addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        )
        .unwrap();
        let many: Addresses = (0..100_u8)
            .map(|last| IpAddr::from([192, 0, 2, last]))
            .collect();
        zone.set(&record("many.shop"), &many).unwrap();
        Testbed {
            zone,
            counters: Counters::default(),
            transfer: vec!["198.51.100.0/24".parse().unwrap()],
        }
    }

    fn raw(&self, request: &[u8], transport: Transport) -> Vec<Vec<u8>> {
        let responder = Responder {
            zone: &self.zone,
            counters: &self.counters,
            transfer: &self.transfer,
        };
        responder.respond(request, CLIENT, transport)
    }

    fn answer(&self, request: &Message, transport: Transport) -> Message {
        let answers = self.raw(&request.to_vec().unwrap(), transport);
        assert_eq!(answers.len(), 1);
        if transport == Transport::Udp {
            assert!(answers[0].len() <= usize::from(UDP_PAYLOAD));
        }
        let answer = Message::from_vec(&answers[0]).unwrap();
        assert_eq!(answer.metadata.id, request.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert!(!answer.metadata.recursion_available);
        answer
    }

    fn counts(&self) -> Counts {
        self.counters.read()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(0);
    message.set_edns(edns);
    message
}

const WEB: &str = "web.shop.lb.example.com.";
const MANY: &str = "many.shop.lb.example.com.";

#[test]
fn each_kind_of_question_has_its_answer() {
    use ResponseCode as C;
    let testbed = Testbed::new();
    let cases = [
        (WEB, RecordType::A, C::NoError, true, (2, 0)),
        (WEB, RecordType::AAAA, C::NoError, true, (1, 0)),
        (WEB, RecordType::MX, C::NoError, true, (0, 1)),
        (WEB, RecordType::ANY, C::NoError, true, (2, 0)),
        (
            "shop.lb.example.com.",
            RecordType::A,
            C::NoError,
            true,
            (0, 1),
        ),
        (
            "none.shop.lb.example.com.",
            RecordType::A,
            C::NXDomain,
            true,
            (0, 1),
        ),
        ("lb.example.com.", RecordType::SOA, C::NoError, true, (1, 0)),
        ("lb.example.com.", RecordType::NS, C::NoError, true, (2, 0)),
        ("example.com.", RecordType::A, C::Refused, false, (0, 0)),
        (".", RecordType::NS, C::Refused, false, (0, 0)),
    ];
    for transport in [Transport::Udp, Transport::Tcp] {
        for (name, kind, code, authoritative, (answers, authorities)) in cases {
            let answer = testbed.answer(&question(name, kind), transport);
            assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
            assert_eq!(
                answer.metadata.authoritative, authoritative,
                "{name} {kind}"
            );
            assert_eq!(answer.answers.len(), answers, "{name} {kind}");
            assert_eq!(answer.authorities.len(), authorities, "{name} {kind}");
            assert!(answer.edns.is_none(), "none was asked for");
        }
    }
    let counts = testbed.counts();
    assert_eq!(
        (
            counts.noerror,
            counts.nodata,
            counts.nxdomain,
            counts.refused
        ),
        (10, 4, 2, 4)
    );
}

#[test]
fn the_case_of_a_question_comes_back() {
    let testbed = Testbed::new();
    let asked = "WeB.sHoP.LB.eXaMpLe.CoM.";
    let answer = testbed.answer(&question(asked, RecordType::A), Transport::Udp);
    assert_eq!(answer.queries[0].name().to_ascii(), asked);
    assert_eq!(answer.answers[0].name.to_ascii(), asked);
}

#[test]
fn addresses_come_in_every_order() {
    let testbed = Testbed::new();
    let first = || {
        let answer = testbed.answer(&question(WEB, RecordType::A), Transport::Udp);
        answer.answers[0].data.to_string()
    };
    // One in 2^199 that this fails by chance.
    let firsts: BTreeSet<_> = (0..200).map(|_| first()).collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn what_does_not_fit_is_truncated_and_whole_by_tcp() {
    let testbed = Testbed::new();
    for payload in [None, Some(100), Some(512), Some(1_232), Some(4_096)] {
        let mut request = question(MANY, RecordType::A);
        if let Some(payload) = payload {
            request = with_edns(request, payload);
        }
        let answer = testbed.answer(&request, Transport::Udp);
        assert!(
            answer.metadata.truncation && answer.metadata.authoritative,
            "{payload:?}"
        );
        assert!(answer.answers.is_empty(), "no part of a set of records");
        assert_eq!(
            answer.edns.is_some(),
            payload.is_some(),
            "RFC 6891 section 7"
        );
        let answer = testbed.answer(&request, Transport::Tcp);
        assert!(!answer.metadata.truncation);
        assert_eq!(answer.answers.len(), 100);
    }
    assert_eq!(testbed.counts().truncated, 5);
}

#[test]
fn addresses_of_name_servers_are_left_out_before_records_are() {
    let mut testbed = Testbed::new();
    let mut spec = spec();
    let many = (0..40_u8).map(|last| IpAddr::from([192, 0, 2, last]));
    for name in spec.name_servers.values_mut() {
        if !name.is_empty() {
            *name = many.clone().collect();
        }
    }
    testbed.zone.configure(&spec);
    let request = question("lb.example.com.", RecordType::NS);
    let answer = testbed.answer(&request, Transport::Udp);
    assert!(!answer.metadata.truncation);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 0));
    let answer = testbed.answer(&with_edns(request, 1_232), Transport::Udp);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 40));
}

#[test]
fn edns_is_answered_with_edns() {
    let testbed = Testbed::new();
    let mut request = with_edns(question(WEB, RecordType::A), 4_096);
    if let Some(edns) = &mut request.edns {
        edns.set_dnssec_ok(true);
    }
    let answer = testbed.answer(&request, Transport::Udp);
    let edns = answer.edns.unwrap();
    assert_eq!((edns.version(), edns.max_payload()), (0, UDP_PAYLOAD));
    assert!(edns.flags().dnssec_ok, "RFC 3225 section 3");
    let mut later = request.clone();
    if let Some(edns) = &mut later.edns {
        edns.set_version(1);
    }
    let answer = testbed.answer(&later, Transport::Udp);
    // BADVERS and BADSIG have the same number.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
    assert!(answer.answers.is_empty());
    assert_eq!(testbed.counts().badvers, 1);
}

#[test]
fn what_is_no_query_is_not_served() {
    let testbed = Testbed::new();
    for code in [
        OpCode::Update,
        OpCode::Notify,
        OpCode::Status,
        OpCode::Unknown(9),
    ] {
        let mut request = question("lb.example.com.", RecordType::SOA);
        request.metadata.op_code = code;
        let answer = testbed.answer(&request, Transport::Udp);
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NotImp,
            "{code:?}"
        );
        assert_eq!(answer.metadata.op_code, code);
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let answer = testbed.answer(&chaos, Transport::Udp);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let mut two = question(WEB, RecordType::A);
    two.add_query(Query::query(
        Name::from_ascii(WEB).unwrap(),
        RecordType::AAAA,
    ));
    let mut none = question(WEB, RecordType::A);
    none.queries.clear();
    for request in [two, none] {
        let answer = testbed.answer(&request, Transport::Udp);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
    assert_eq!(testbed.counts().notimp, 4);
    assert_eq!(testbed.counts().formerr, 2);
}

#[test]
fn what_cannot_be_read_is_told_and_answers_are_not_answered() {
    let testbed = Testbed::new();
    let whole = question(WEB, RecordType::A).to_vec().unwrap();
    for length in 0..12 {
        assert!(testbed.raw(&whole[..length], Transport::Udp).is_empty());
    }
    let mut response = whole.clone();
    response[2] |= 0x80;
    assert!(testbed.raw(&response, Transport::Udp).is_empty());
    assert_eq!(testbed.counts().ignored, 13);
    for length in 12..whole.len() {
        let answers = testbed.raw(&whole[..length], Transport::Udp);
        let answer = Message::from_vec(&answers[0]).unwrap();
        assert_eq!(answer.metadata.id, 4711);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
}

#[test]
fn a_signed_query_is_told_that_there_are_no_keys() {
    let testbed = Testbed::new();
    let key = crate::Key::new("hmac-sha256", "lbkey", "AAAAAAAAAAAAAAAAAAAAAA==").unwrap();
    let mut request = question(WEB, RecordType::A);
    request.finalize(key.signer(), 1_700_000_000).unwrap();
    let answer = testbed.answer(&request, Transport::Tcp);
    assert_eq!(answer.metadata.response_code, ResponseCode::NotAuth);
    let signature = answer.signature.unwrap();
    assert_eq!(signature.name.to_ascii(), "lbkey.");
    assert_eq!(signature.data.error.map(u16::from), Some(17), "BADKEY");
    assert!(answer.answers.is_empty());
}

#[test]
fn a_transfer_is_for_those_who_may() {
    let mut testbed = Testbed::new();
    let request = question("lb.example.com.", RecordType::AXFR);
    let answers = testbed.raw(&request.to_vec().unwrap(), Transport::Tcp);
    let records: Vec<Record> = answers
        .iter()
        .flat_map(|bytes| Message::from_vec(bytes).unwrap().answers)
        .collect();
    assert_eq!(records, testbed.zone.transfer().collect::<Vec<_>>());
    assert_eq!(testbed.counts().transfers, 1);
    let refused = |testbed: &Testbed, name: &str, transport| {
        let answer = testbed.answer(&question(name, RecordType::AXFR), transport);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    };
    refused(&testbed, "lb.example.com.", Transport::Udp);
    refused(&testbed, WEB, Transport::Tcp);
    refused(&testbed, "example.com.", Transport::Tcp);
    testbed.transfer = vec!["203.0.113.0/24".parse().unwrap()];
    refused(&testbed, "lb.example.com.", Transport::Tcp);
    testbed.transfer.clear();
    refused(&testbed, "lb.example.com.", Transport::Tcp);
}

#[test]
fn an_incremental_transfer_is_whole_or_says_that_nothing_has_changed() {
    let testbed = Testbed::new();
    let serial = testbed.zone.serial().get();
    let ask = |serial: u32, transport| {
        let mut request = question("lb.example.com.", RecordType::IXFR);
        let mut soa = testbed.zone.soa();
        if let RData::SOA(data) = &mut soa.data {
            data.serial = serial;
        }
        request.add_authority(soa);
        let answers = testbed.raw(&request.to_vec().unwrap(), transport);
        answers
            .iter()
            .map(|bytes| Message::from_vec(bytes).unwrap().answers.len())
            .sum::<usize>()
    };
    let all = testbed.zone.transfer().count();
    assert_eq!(ask(serial - 1, Transport::Tcp), all);
    assert_eq!(ask(serial, Transport::Tcp), 1);
    assert_eq!(
        ask(serial + 1, Transport::Tcp),
        1,
        "the client has a later one"
    );
    assert_eq!(ask(serial - 1, Transport::Udp), 1);
}

#[test]
fn a_large_zone_is_transferred_in_many_messages() {
    let mut testbed = Testbed::new();
    let mut names = std::collections::BTreeMap::new();
    for number in 0..3_000_u32 {
        let name = record(&format!("balancer-{number}.project-{}", number % 100));
        let address = IpAddr::from((0x0a00_0001 + number).to_be_bytes());
        names.insert(
            name,
            Addresses::from([address, "2001:db8::1".parse().unwrap()]),
        );
    }
    testbed.zone.replace(&names).unwrap();
    let request = question("lb.example.com.", RecordType::AXFR)
        .to_vec()
        .unwrap();
    let answers = testbed.raw(&request, Transport::Tcp);
    assert!(answers.len() > 5, "{}", answers.len());
    assert!(answers.iter().all(|bytes| bytes.len() <= 17_000));
    let records: Vec<Record> = answers
        .iter()
        .flat_map(|bytes| Message::from_vec(bytes).unwrap().answers)
        .collect();
    assert_eq!(records, testbed.zone.transfer().collect::<Vec<_>>());
}

#[test]
fn an_answer_to_too_many_queries_is_no_longer_than_the_query() {
    let testbed = Testbed::new();
    let responder = Responder {
        zone: &testbed.zone,
        counters: &testbed.counters,
        transfer: &[],
    };
    let request = with_edns(question(WEB, RecordType::A), 1_232)
        .to_vec()
        .unwrap();
    let answers = responder.truncated(&request);
    assert!(answers[0].len() <= request.len());
    let answer = Message::from_vec(&answers[0]).unwrap();
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert!(
        responder.truncated(&answers[0]).is_empty(),
        "no answer to an answer"
    );
    assert!(responder.truncated(b"rubbish").is_empty());
}

#[test]
fn a_panic_costs_one_answer() {
    let testbed = Testbed::new();
    let responder = Responder {
        zone: &testbed.zone,
        counters: &testbed.counters,
        transfer: &[],
    };
    assert!(responder.guard(|| panic!("a fault")).is_empty());
    assert_eq!(testbed.counts().panics, 1);
    testbed.answer(&question(WEB, RecordType::A), Transport::Udp);
}

proptest! {
    #[test]
    fn no_message_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..600), tcp: bool) {
        let testbed = Testbed::new();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        for answer in testbed.raw(&bytes, transport) {
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
        prop_assert_eq!(testbed.counts().panics, 0);
    }

    #[test]
    fn no_damaged_query_breaks_it(
        position in 0_usize..60,
        value: u8,
        cut in 12_usize..80,
        edns: bool,
    ) {
        let testbed = Testbed::new();
        let mut request = question(WEB, RecordType::A);
        if edns {
            request = with_edns(request, 1_232);
        }
        let mut bytes = request.to_vec().unwrap();
        if let Some(byte) = bytes.get_mut(position) {
            *byte = value;
        }
        bytes.truncate(cut);
        for answer in testbed.raw(&bytes, Transport::Udp) {
            prop_assert!(answer.len() <= usize::from(UDP_PAYLOAD));
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
        prop_assert_eq!(testbed.counts().panics, 0);
    }
}

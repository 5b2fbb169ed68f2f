//! Answers to messages. Everything here is pure but for the order of addresses, which is drawn at random.

use std::{
    net::IpAddr,
    panic::{self, AssertUnwindSafe},
    time::{SystemTime, UNIX_EPOCH},
};

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType, TSigResponseContext},
    serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder},
};
use ipnet::IpNet;

use crate::{Counters, Lookup, Serial, Zone, counters::Counter};

/// The largest datagram that is sent: it fits into the smallest packets of IPv6, so it is not fragmented (DNS flag day 2020).
pub(crate) const UDP_PAYLOAD: u16 = 1_232;
/// What a client takes that says nothing (RFC 1035 section 4.2.1).
const PLAIN_UDP: u16 = 512;
/// The size at which a message of a transfer is full. Names are compressed in the first 16 KiB of a message only.
const TRANSFER_MESSAGE: usize = 16_000;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// By UDP; the answer is a datagram.
    Udp,
    /// By TCP.
    Tcp,
}

/// Answers messages.
#[derive(Debug)]
pub(crate) struct Responder<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) counters: &'a Counters,
    /// Networks that may transfer the zone.
    pub(crate) transfer: &'a [IpNet],
}

impl Responder<'_> {
    /// Returns the messages that answer a message. It has no answer if it is too short to have a sender that waits, or is an
    /// answer itself: two servers would answer each other for ever.
    pub(crate) fn respond(
        &self,
        request: &[u8],
        client: IpAddr,
        transport: Transport,
    ) -> Vec<Vec<u8>> {
        self.guard(|| self.decide(request, client, transport))
    }

    /// Makes an answer. A panic, which is a fault of the program or of a library, costs this answer only: whoever finds a
    /// message that leads to one must not be able to end the server with it.
    fn guard(&self, work: impl FnOnce() -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.counters.panics.count();
            Vec::new()
        })
    }

    fn decide(&self, request: &[u8], client: IpAddr, transport: Transport) -> Vec<Vec<u8>> {
        let counters = self.counters;
        let Ok(header) = Header::read(&mut BinDecoder::new(request)) else {
            counters.ignored.count();
            return Vec::new();
        };
        if header.metadata.message_type != MessageType::Query {
            counters.ignored.count();
            return Vec::new();
        }
        let Ok(request) = Message::from_vec(request) else {
            let response = Message::error_msg(
                header.metadata.id,
                header.metadata.op_code,
                ResponseCode::FormErr,
            );
            return self.one(response, &counters.formerr, PLAIN_UDP);
        };
        let limit = match (transport, &request.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, UDP_PAYLOAD),
        };
        let error = |code: ResponseCode, counter: &Counter| {
            let mut response = response_to(&request);
            response.metadata.response_code = code;
            self.one(response, counter, limit)
        };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return error(ResponseCode::BADVERS, &counters.badvers);
        }
        if request.metadata.op_code != OpCode::Query {
            return error(ResponseCode::NotImp, &counters.notimp);
        }
        if let Some(signature) = &request.signature {
            return self.unknown_key(&request, &signature.name, limit);
        }
        let [query] = &*request.queries else {
            return error(ResponseCode::FormErr, &counters.formerr);
        };
        if query.query_class() != DNSClass::IN {
            return error(ResponseCode::Refused, &counters.refused);
        }
        if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return self
                .transfer(&request, query, client, transport)
                .unwrap_or_else(|| error(ResponseCode::Refused, &counters.refused));
        }
        let mut response = response_to(&request);
        response.metadata.authoritative = true;
        let counter = match self.zone.lookup(query.name(), query.query_type()) {
            Lookup::Foreign => return error(ResponseCode::Refused, &counters.refused),
            Lookup::NoName(soa) => {
                response.metadata.response_code = ResponseCode::NXDomain;
                response.add_authority(soa);
                &counters.nxdomain
            }
            Lookup::NoData(soa) => {
                response.add_authority(soa);
                &counters.nodata
            }
            Lookup::Records {
                mut answers,
                additionals,
            } => {
                // Clients take the first address. A turn for each answer would give clients that ask for A and AAAA one by
                // one always the same.
                fastrand::shuffle(&mut answers);
                response.add_answers(answers);
                response.add_additionals(additionals);
                &counters.noerror
            }
        };
        self.one(response, counter, limit)
    }

    /// Returns the answer to a query of a client that sends too many: it is no longer than the query and has no record.
    pub(crate) fn truncated(&self, request: &[u8]) -> Vec<Vec<u8>> {
        self.guard(|| match Message::from_vec(request) {
            Ok(request) if request.metadata.message_type == MessageType::Query => {
                let mut response = response_to(&request);
                response.metadata.truncation = true;
                self.one(response, &self.counters.truncated, UDP_PAYLOAD)
            }
            _ => Vec::new(),
        })
    }

    /// Encodes an answer and counts it. If it does not fit, the addresses of name servers are left out, then all records.
    fn one(&self, mut response: Message, counter: &Counter, limit: u16) -> Vec<Vec<u8>> {
        counter.count();
        if let Some(bytes) = encode(&response, limit) {
            return vec![bytes];
        }
        response.additionals.clear();
        if let Some(bytes) = encode(&response, limit) {
            return vec![bytes];
        }
        self.counters.truncated.count();
        response.answers.clear();
        response.authorities.clear();
        response.metadata.truncation = true;
        encode(&response, limit).into_iter().collect()
    }

    /// Answers a signed query: this server has no keys (RFC 8945 section 5.2.1).
    fn unknown_key(
        &self,
        request: &Message,
        key: &hickory_proto::rr::Name,
        limit: u16,
    ) -> Vec<Vec<u8>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut response = response_to(request);
        response.metadata.response_code = ResponseCode::NotAuth;
        let context =
            TSigResponseContext::unknown_key(request.metadata.id, now.as_secs(), key.clone());
        if let Ok(signature) = context.sign(&[]) {
            response.set_signature(signature);
        }
        self.one(response, &self.counters.notauth, limit)
    }

    /// Answers a query for a transfer, if the client may have one. An incremental one (RFC 1995) gets the whole zone, or the
    /// zone's record if the client has it already, and by UDP, to which nothing larger fits.
    fn transfer(
        &self,
        request: &Message,
        query: &Query,
        client: IpAddr,
        transport: Transport,
    ) -> Option<Vec<Vec<u8>>> {
        let client = client.to_canonical();
        let incremental = query.query_type() == RecordType::IXFR;
        let soa = self.zone.soa();
        let permitted = self
            .transfer
            .iter()
            .any(|network| network.contains(&client))
            && soa.name == *query.name()
            && (incremental || transport == Transport::Tcp);
        if !permitted {
            return None;
        }
        let known = request.authorities.iter().find_map(|record| {
            let RData::SOA(soa) = &record.data else {
                return None;
            };
            Some(Serial::new(soa.serial))
        });
        let current =
            incremental && known.is_some_and(|known| !self.zone.serial().is_later_than(known));
        let mut response = response_to(request);
        response.metadata.authoritative = true;
        if current || transport == Transport::Udp {
            response.add_answer(soa);
            return Some(self.one(response, &self.counters.noerror, UDP_PAYLOAD));
        }
        self.counters.transfers.count();
        let mut messages = Vec::new();
        let mut size = 0;
        for record in self.zone.transfer() {
            let length = wire_length(&record);
            if size + length > TRANSFER_MESSAGE {
                messages.extend(encode(&response, u16::MAX));
                response.answers.clear();
                size = 0;
            }
            size += length;
            response.add_answer(record);
        }
        messages.extend(encode(&response, u16::MAX));
        Some(messages)
    }
}

/// Begins the response to a request: the same question and EDNS if the request has it.
fn response_to(request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD)
            .set_version(0)
            .set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// Returns the most bytes that a record takes.
fn wire_length(record: &Record) -> usize {
    // Type, class, time to live, length of data; addresses and the names of servers. The zone's record has two names and
    // five numbers.
    let fixed = 10 + 16;
    let names = match &record.data {
        RData::NS(server) => server.len(),
        RData::SOA(soa) => soa.mname.len() + soa.rname.len() + 20,
        _ => 0,
    };
    record.name.len() + fixed + names
}

/// Encodes a message, if it fits whole.
fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder).ok()?;
    let cut = !message.metadata.truncation && bytes.get(2).is_some_and(|flags| flags & 0x02 != 0);
    (!cut).then_some(bytes)
}

#[cfg(test)]
mod tests;

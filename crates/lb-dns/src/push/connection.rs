//! A connection to a DNS server. Each message is signed; what is believed of an answer to an update is signed, too.
//!
//! TCP, because nobody can forge the source of an answer, no answer is truncated, and no update is sent twice: a repeated
//! one would fail for what the first one did.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType, TSigVerifier,
        rdata::tsig::{TSIG, TsigError},
    },
};
use lb_model::dns::DomainName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Key, PushError};
use crate::zone::name_of;

/// A connection.
pub(super) struct Connection {
    server: SocketAddr,
    stream: TcpStream,
    key: Key,
    patience: Duration,
    next_id: u16,
    /// The zone that the server has, which ours is or is part of.
    zone: Name,
}

/// A message that waits for its answer.
struct Pending {
    id: u16,
    query: Query,
    verifier: Option<TSigVerifier>,
}

impl Connection {
    pub(super) async fn open(
        server: SocketAddr,
        key: Key,
        patience: Duration,
    ) -> Result<Self, PushError> {
        let connecting = async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = timeout(patience, connecting)
            .await
            .map_err(|_| PushError::Timeout {
                server,
                after: patience,
            })?
            .map_err(|source| PushError::Connect { server, source })?;
        Ok(Connection {
            server,
            stream,
            key,
            patience,
            next_id: fastrand::u16(..),
            zone: Name::root(),
        })
    }

    /// Returns the zone that updates name.
    pub(super) fn zone(&self) -> &Name {
        &self.zone
    }

    /// Finds the zone at the server: the wanted one, or the one it is part of.
    pub(super) async fn find_zone(&mut self, zone: &DomainName) -> Result<(), PushError> {
        let wanted = name_of(zone);
        let not_here = PushError::NotAuthoritative {
            server: self.server,
            zone: zone.clone(),
        };
        let answers = match self.ask(&[(wanted.clone(), RecordType::SOA)]).await {
            Ok(answers) => answers,
            // What servers say that do not have it.
            Err(PushError::Server {
                code: ResponseCode::Refused | ResponseCode::NotAuth,
                ..
            }) => return Err(not_here),
            Err(error) => return Err(error),
        };
        let found = answers
            .iter()
            // A resolver's answer is not authoritative, and neither is a delegation.
            .filter(|answer| answer.metadata.authoritative)
            .flat_map(|answer| answer.answers.iter().chain(&answer.authorities))
            .filter(|record| matches!(record.data, RData::SOA(_)))
            .map(|record| &record.name)
            .find(|name| name.zone_of(&wanted));
        match found {
            Some(name) => {
                self.zone = name.clone();
                Ok(())
            }
            None => Err(not_here),
        }
    }

    /// Asks questions and returns the answers in the order of the questions. A name that does not exist has an answer
    /// without records.
    pub(super) async fn ask(
        &mut self,
        questions: &[(Name, RecordType)],
    ) -> Result<Vec<Message>, PushError> {
        let questions = questions.iter().map(|(name, kind)| {
            let mut message = Message::new(0, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name.clone(), *kind));
            message
        });
        let mut answers = Vec::with_capacity(questions.len());
        for (query, answer) in self.exchange(questions).await? {
            self.check_answer(&answer, &query)?;
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Sends updates and returns the server's decisions, in the order of the updates.
    pub(super) async fn update(
        &mut self,
        updates: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<ResponseCode>, PushError> {
        let answers = self.exchange(updates).await?;
        let decided = answers.iter().map(|(_, answer)| {
            let code = answer.metadata.response_code;
            // A server that refuses an update by the client's address does not look at its signature.
            if answer.signature.is_none() && code == ResponseCode::NoError {
                return Err(self.unsigned("it has no signature"));
            }
            Ok(code)
        });
        decided.collect()
    }

    /// Sends messages and returns their answers, each with its question, in the order of the messages.
    async fn exchange(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<(Query, Message)>, PushError> {
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for message in messages {
            sent.push(self.frame(message, &mut bytes)?);
        }
        if sent.is_empty() {
            return Ok(Vec::new());
        }
        self.write(&bytes).await?;
        let mut answers: Vec<Option<Message>> = sent.iter().map(|_| None).collect();
        // A server may answer a later message first (RFC 7766 section 6.2.1.1).
        while answers.iter().any(Option::is_none) {
            let bytes = self.read().await?;
            let (position, answer) = self.take_answer(&bytes, &mut sent, &answers)?;
            answers[position] = Some(answer);
        }
        let queries = sent.into_iter().map(|pending| pending.query);
        Ok(queries.zip(answers.into_iter().flatten()).collect())
    }

    /// Signs a message and adds it with its length to the bytes.
    fn frame(&mut self, mut message: Message, bytes: &mut Vec<u8>) -> Result<Pending, PushError> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        message.metadata.id = id;
        let nonsense = |error: hickory_proto::ProtoError| PushError::Answer {
            server: self.server,
            why: format!("the question to it cannot be encoded: {error}"),
        };
        let verifier = message
            .finalize(self.key.signer(), unix_time())
            .map_err(nonsense)?;
        let encoded = message.to_vec().map_err(nonsense)?;
        let length = u16::try_from(encoded.len()).map_err(|_| PushError::Answer {
            server: self.server,
            why: "the question to it is too long".to_owned(),
        })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&encoded);
        let query = message.queries.pop().unwrap_or_default();
        Ok(Pending {
            id,
            query,
            verifier,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), PushError> {
        match timeout(self.patience, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(self.broken(source)),
            Err(_) => Err(self.late()),
        }
    }

    async fn read(&mut self) -> Result<Vec<u8>, PushError> {
        // Servers send each answer by itself and wait for the acknowledgement of the one before (Nagle), which the kernel
        // delays by 40 ms as long as there is nothing to send. The option holds for a moment only. Without it answers are slow.
        let _ = self.stream.set_quickack(true);
        let stream = &mut self.stream;
        let reading = async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await?;
            Ok(bytes)
        };
        match timeout(self.patience, reading).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(source)) => Err(self.broken(source)),
            Err(_) => Err(self.late()),
        }
    }

    /// Finds the message that these bytes answer, and checks the signature if there is one.
    fn take_answer(
        &self,
        bytes: &[u8],
        sent: &mut [Pending],
        answers: &[Option<Message>],
    ) -> Result<(usize, Message), PushError> {
        let answer = Message::from_vec(bytes).map_err(|error| self.nonsense(&error))?;
        let position = sent
            .iter()
            .zip(answers)
            .position(|(pending, answer)| pending.id == answer_id(bytes) && answer.is_none());
        let Some(position) = position else {
            return Err(self.nonsense(&"it answers no question"));
        };
        if answer.metadata.message_type != MessageType::Response {
            return Err(self.nonsense(&"it is no answer"));
        }
        if let Some(signature) = &answer.signature {
            if let Some(error) = &signature.data.error {
                return Err(self.signature_error(*error, &signature.data));
            }
            if let Some(verifier) = &mut sent[position].verifier {
                verifier
                    .verify(bytes)
                    .map_err(|error| self.unsigned(&error.to_string()))?;
            }
        }
        Ok((position, answer))
    }

    /// Checks the answer to a question.
    fn check_answer(&self, answer: &Message, query: &Query) -> Result<(), PushError> {
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => {
                return Err(PushError::Server {
                    server: self.server,
                    code,
                    about: shown(query.name()),
                });
            }
        }
        if answer.queries.first() != Some(query) {
            return Err(self.nonsense(&"it is to another question"));
        }
        Ok(())
    }

    /// Explains why the server does not accept a signature (RFC 8945 section 5.2).
    fn signature_error(&self, error: TsigError, signature: &TSIG) -> PushError {
        let (server, key) = (self.server, self.key.to_string());
        match error {
            TsigError::BadKey => PushError::BadKey { server, key },
            TsigError::BadTime => {
                // The server's time is in the other data, as 48 bits (RFC 8945 section 5.2.3).
                let time = match *signature.other {
                    [a, b, c, d, e, f] => u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
                    _ => signature.time,
                };
                let by = Duration::from_secs(time.abs_diff(unix_time()));
                PushError::BadTime { server, by }
            }
            TsigError::BadSig | TsigError::BadTrunc => PushError::BadSignature { server, key },
            TsigError::Unknown(code) => PushError::Unsigned {
                server,
                why: format!("the server reports the TSIG error {code}"),
            },
        }
    }

    fn late(&self) -> PushError {
        PushError::Timeout {
            server: self.server,
            after: self.patience,
        }
    }

    fn broken(&self, source: io::Error) -> PushError {
        PushError::Broken {
            server: self.server,
            source,
        }
    }

    fn unsigned(&self, why: &str) -> PushError {
        PushError::Unsigned {
            server: self.server,
            why: why.to_owned(),
        }
    }

    fn nonsense(&self, why: &dyn std::fmt::Display) -> PushError {
        PushError::Answer {
            server: self.server,
            why: why.to_string(),
        }
    }
}

/// Shows a name without its final dot.
fn shown(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn answer_id(bytes: &[u8]) -> u16 {
    bytes.first_chunk().copied().map_or(0, u16::from_be_bytes)
}

fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;

//! A connection that a broker has accepted.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{self, Instant},
};

use super::{
    Connect, Message, Refusal, Version,
    codec::{self, Packet, Request},
    connack,
};
use crate::peer::{Closing, Deadline, PeerError, Stream, Target, TlsClient};

/// Room that is made for reading.
const CHUNK: usize = 4 << 10;
/// Bytes of messages that may arrive before a subscription is acknowledged. The broker may send retained messages
/// first (MQTT 3.1.1 section 3.8.4); they are delivered by [`Session::receive`].
const MAX_EARLY: usize = 1 << 20;
/// Pings in a row without any packet from the broker after which it counts as dead. They are half a keep-alive apart.
const MAX_UNANSWERED: u32 = 2;
const CONNECTING: &str = "waiting for CONNACK";
const SENDING: &str = "sending";
const SUBSCRIBING: &str = "subscribing";
const PUBLISHING: &str = "waiting until the broker acknowledges a message";
const RECEIVING: &str = "waiting for a message";

/// A connection that a broker has accepted. Dropping it breaks the connection, and the broker publishes the will.
///
/// The session keeps itself alive while [`receive`](Self::receive) is awaited: it pings the broker after half a
/// keep-alive without a packet to send.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    version: Version,
    input: BytesMut,
    output: BytesMut,
    /// Whether bytes may wait in the TLS layer.
    unflushed: bool,
    keep_alive: Duration,
    sent_at: Instant,
    unanswered: u32,
    last_id: u16,
    early: VecDeque<Message>,
    early_bytes: usize,
}

impl Session {
    /// Connects to a broker.
    ///
    /// # Errors
    /// Any [`PeerError`]. A broker that answers and refuses is `Ok(Err(refusal))`.
    pub async fn open(
        target: &Target,
        tls: Option<&mut TlsClient>,
        connect: &Connect,
        deadline: &Deadline,
    ) -> Result<Result<Self, Refusal>, PeerError> {
        Self::open_until(target, tls, Closing::Orderly, connect, deadline).await
    }

    /// As [`open`](Self::open), and says how the connection ends when it is dropped.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_until(
        target: &Target,
        tls: Option<&mut TlsClient>,
        closing: Closing,
        connect: &Connect,
        deadline: &Deadline,
    ) -> Result<Result<Self, Refusal>, PeerError> {
        // The password is read first: a connection that then cannot be used would puzzle the broker.
        let bytes = connect.encode(deadline).await?;
        let stream = Stream::open_until(target, tls, closing, deadline).await?;
        Self::greet(stream, bytes, connect, deadline).await
    }

    /// Connects over a stream that is open already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn over(
        stream: Stream,
        connect: &Connect,
        deadline: &Deadline,
    ) -> Result<Result<Self, Refusal>, PeerError> {
        let bytes = connect.encode(deadline).await?;
        Self::greet(stream, bytes, connect, deadline).await
    }

    async fn greet(
        stream: Stream,
        bytes: BytesMut,
        connect: &Connect,
        deadline: &Deadline,
    ) -> Result<Result<Self, Refusal>, PeerError> {
        let mut session = Session {
            stream,
            version: connect.version,
            input: BytesMut::new(),
            output: bytes,
            unflushed: false,
            keep_alive: connect.keep_alive,
            sent_at: Instant::now(),
            unanswered: 0,
            last_id: 0,
            early: VecDeque::new(),
            early_bytes: 0,
        };
        deadline
            .bound(CONNECTING, async {
                loop {
                    if let Some(answer) = connack::decode(&mut session.input, session.version)? {
                        return Ok(answer.map(|()| session));
                    }
                    session.transfer(CONNECTING).await?;
                }
            })
            .await
    }

    /// Subscribes at QoS 0, and returns whether the broker grants it.
    ///
    /// # Errors
    /// Any [`PeerError`]; the session is of no use afterwards.
    pub async fn subscribe(
        &mut self,
        filter: &str,
        deadline: &Deadline,
    ) -> Result<bool, PeerError> {
        let id = self.next_id();
        self.queue(Request::Subscribe { id, filter })?;
        deadline
            .bound(SUBSCRIBING, async {
                loop {
                    match self.next_packet(SUBSCRIBING).await? {
                        Packet::SubscribeAck(acknowledged, granted) if acknowledged == id => {
                            return Ok(granted);
                        }
                        Packet::Publish(message) => self.keep_early(message)?,
                        Packet::Disconnect(reason) => return Err(disconnected(&reason)),
                        _ => {}
                    }
                }
            })
            .await
    }

    /// Publishes at QoS 1, and waits until the broker acknowledges it.
    ///
    /// # Errors
    /// Any [`PeerError`]; the session is of no use afterwards.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: Bytes,
        retain: bool,
        deadline: &Deadline,
    ) -> Result<(), PeerError> {
        let id = self.next_id();
        self.queue(Request::Publish {
            id,
            topic,
            payload,
            retain,
        })?;
        deadline
            .bound(PUBLISHING, async {
                loop {
                    match self.next_packet(PUBLISHING).await? {
                        Packet::PublishAck(acknowledged, None) if acknowledged == id => {
                            return Ok(());
                        }
                        Packet::PublishAck(acknowledged, Some(reason)) if acknowledged == id => {
                            return Err(PeerError::Protocol(format!(
                                "the broker refuses a message on {topic}: {reason}"
                            )));
                        }
                        Packet::Publish(message) => self.keep_early(message)?,
                        Packet::Disconnect(reason) => return Err(disconnected(&reason)),
                        _ => {}
                    }
                }
            })
            .await
    }

    /// The next message. May be dropped and called again: nothing is lost. Pings the broker as needed.
    ///
    /// # Errors
    /// Any [`PeerError`]: the session has ended. [`PeerError::Unresponsive`] after one and a half times the keep-alive
    /// without a packet from the broker.
    pub async fn receive(&mut self) -> Result<Message, PeerError> {
        if let Some(message) = self.early.pop_front() {
            self.early_bytes -= size(&message);
            return Ok(message);
        }
        loop {
            match self.next_packet(RECEIVING).await? {
                Packet::Publish(message) => return Ok(message),
                Packet::Disconnect(reason) => return Err(disconnected(&reason)),
                _ => {}
            }
        }
    }

    /// Ends the session as a client should: the broker logs no lost connection and publishes no will.
    ///
    /// # Errors
    /// Any [`PeerError`]; the connection is closed in any case.
    pub async fn disconnect(mut self, deadline: &Deadline) -> Result<(), PeerError> {
        self.queue(Request::Disconnect)?;
        deadline
            .bound("sending DISCONNECT", async {
                while self.has_output() {
                    self.write(SENDING).await?;
                }
                self.stream
                    .shutdown()
                    .await
                    .map_err(|error| PeerError::io(SENDING, &error))
            })
            .await
    }

    /// Says DISCONNECT, and leaves the end of the connection to the broker, which has this long. So the broker, and not
    /// this host, keeps the connection in TIME_WAIT.
    ///
    /// # Errors
    /// Any [`PeerError`]; the connection is closed in any case.
    pub async fn leave(mut self, patience: Duration, deadline: &Deadline) -> Result<(), PeerError> {
        self.queue(Request::Disconnect)?;
        let goodbye = async {
            while self.has_output() {
                self.write(SENDING).await?;
            }
            loop {
                self.input.clear();
                match self.transfer(SENDING).await {
                    Ok(()) => {}
                    Err(PeerError::Closed(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        match time::timeout(patience, deadline.bound(SENDING, goodbye)).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }

    /// 0 is no id (MQTT 3.1.1 section 2.3.1).
    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    fn keep_early(&mut self, message: Message) -> Result<(), PeerError> {
        self.early_bytes += size(&message);
        if self.early_bytes > MAX_EARLY {
            return Err(PeerError::TooLong { limit: MAX_EARLY });
        }
        self.early.push_back(message);
        Ok(())
    }

    fn queue(&mut self, request: Request<'_>) -> Result<(), PeerError> {
        codec::encode(request, self.version, &mut self.output)?;
        self.sent_at = Instant::now();
        Ok(())
    }

    async fn next_packet(&mut self, doing: &'static str) -> Result<Packet, PeerError> {
        loop {
            if let Some(packet) = codec::decode(&mut self.input, self.version)? {
                self.unanswered = 0;
                if packet == Packet::Pong {
                    continue;
                }
                return Ok(packet);
            }
            let ping_at = self.sent_at + self.keep_alive / 2;
            tokio::select! {
                moved = self.transfer(doing) => moved?,
                () = time::sleep_until(ping_at) => self.ping()?,
            }
        }
    }

    fn ping(&mut self) -> Result<(), PeerError> {
        if self.unanswered >= MAX_UNANSWERED {
            return Err(PeerError::Unresponsive {
                after: self.keep_alive / 2 * (MAX_UNANSWERED + 1),
            });
        }
        self.unanswered += 1;
        self.queue(Request::Ping)
    }

    fn has_output(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }

    /// Writes what is queued, or else reads. May be dropped and called again.
    async fn transfer(&mut self, doing: &'static str) -> Result<(), PeerError> {
        if self.has_output() {
            return self.write(doing).await;
        }
        self.input.reserve(CHUNK);
        let length = self
            .stream
            .read_buf(&mut self.input)
            .await
            .map_err(|error| PeerError::io(doing, &error))?;
        if length == 0 {
            return Err(PeerError::Closed(doing));
        }
        Ok(())
    }

    async fn write(&mut self, doing: &'static str) -> Result<(), PeerError> {
        let failed = |error| PeerError::io(doing, &error);
        if self.output.is_empty() {
            self.stream.flush().await.map_err(failed)?;
            self.unflushed = false;
        } else {
            self.unflushed = true;
            let written = self.stream.write_buf(&mut self.output).await;
            if written.map_err(failed)? == 0 {
                return Err(PeerError::Closed(doing));
            }
        }
        Ok(())
    }
}

fn size(message: &Message) -> usize {
    message.topic.len() + message.payload.len()
}

fn disconnected(reason: &str) -> PeerError {
    PeerError::Protocol(format!("the broker ends the session: {reason}"))
}

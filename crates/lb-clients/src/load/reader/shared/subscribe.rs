//! What is read over MQTT: one connection with one subscription, held as long as it goes.
//!
//! The [`Session`] bounds the packets and the time to connect, and [`TopicReader`] what it keeps.

use std::time::{Duration, Instant};

use tokio::time;

use super::super::kind::SourceTarget;
use super::{
    task::Task,
    topics::{Received, TopicReader},
};
use crate::backoff::{Backoff, random_part};
use crate::load::{combine::fresh_for, reading::ReadError};
use crate::peer::{
    Deadline, PeerError, Target, TlsClient,
    mqtt::{Connect, Login, Refusal, Session, Version, random_client_id},
};

/// The longest silence of this client. A broker that is silent for one and a half times as long counts as dead.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Values are published one after the other: so long after a heartbeat they are taken together.
const SETTLE: Duration = Duration::from_millis(250);
/// Before the second attempt to connect.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// Between two attempts to connect. A session that lasted longer than this counts as a success.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A broker, and the user of the subscription.
#[derive(Debug)]
pub(in super::super) struct BrokerEndpoint {
    target: Target,
    tls: Option<TlsClient>,
    login: Option<Login>,
}

impl BrokerEndpoint {
    /// The broker of a source.
    pub(in super::super) fn new(target: &SourceTarget<'_>) -> Self {
        BrokerEndpoint {
            target: Target {
                address: target.address,
                mark: None,
            },
            // The name that IANA gave MQTT (ALPN).
            tls: target.tls_client(&["mqtt"]),
            login: Login::from_authorization(target.authorization().as_ref()),
        }
    }
}

/// Connects, reads, and connects again, until nobody listens any more.
pub(in super::super) async fn run(
    mut task: Task,
    mut broker: BrokerEndpoint,
    mut topics: Box<dyn TopicReader>,
) {
    let mut backoff = Backoff::new(MIN_BACKOFF, MAX_BACKOFF);
    // Readers that start together do not connect together.
    time::sleep(random_part(MIN_BACKOFF)).await;
    loop {
        let started = Instant::now();
        let reason = match open(&mut broker, topics.filter(), task.timeout).await {
            Ok(session) => match follow(&mut task, session, topics.as_mut()).await {
                Some(reason) => reason,
                None => return,
            },
            Err(error) => error.to_string(),
        };
        let trouble = ReadError::Failed(format!("{}: {reason}", broker.target.address));
        if !task.report(Err(trouble)).await {
            return;
        }
        if started.elapsed() > MAX_BACKOFF {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

async fn open(
    broker: &mut BrokerEndpoint,
    filter: &str,
    timeout: Duration,
) -> Result<Session, PeerError> {
    let deadline = Deadline::after(timeout);
    let connect = Connect {
        version: Version::V311,
        client_id: random_client_id("lbread"),
        keep_alive: KEEP_ALIVE,
        login: broker.login.clone(),
        will: None,
    };
    let mut session = Session::open(&broker.target, broker.tls.as_mut(), &connect, &deadline)
        .await?
        .map_err(refused)?;
    if session.subscribe(filter, &deadline).await? {
        Ok(session)
    } else {
        Err(PeerError::Protocol(format!(
            "the broker refuses the subscription to {filter}; allow it to the source's user"
        )))
    }
}

fn refused(refusal: Refusal) -> PeerError {
    let advice = match refusal {
        Refusal::UserNameOrPassword | Refusal::NotAuthorized => {
            "; give the source a username and password that the broker knows"
        }
        Refusal::ProtocolVersion => "; the source needs a broker that speaks MQTT 3.1.1",
        _ => "",
    };
    PeerError::Protocol(format!("the broker refuses the login: {refusal}{advice}"))
}

/// Reads until the connection ends, and says why; none: nobody listens any more.
async fn follow(
    task: &mut Task,
    mut session: Session,
    topics: &mut dyn TopicReader,
) -> Option<String> {
    let patience = fresh_for(task.interval);
    let mut last_heartbeat = Instant::now();
    let mut settled: Option<time::Instant> = None;
    let mut stale_at = time::Instant::now() + patience;
    loop {
        let settle_at = settled.unwrap_or(stale_at);
        tokio::select! {
            message = session.receive() => {
                let message = match message {
                    Ok(message) => message,
                    Err(error) => return Some(error.to_string()),
                };
                match topics.receive(&message) {
                    Received::Stored => {}
                    Received::Heartbeat => {
                        last_heartbeat = Instant::now();
                        stale_at = time::Instant::now() + patience;
                        settled.get_or_insert_with(|| time::Instant::now() + SETTLE);
                    }
                    Received::Unreadable(reason) => {
                        if !task.report(Err(ReadError::Failed(reason))).await {
                            return None;
                        }
                    }
                }
            }
            () = time::sleep_until(settle_at), if settled.is_some() => {
                settled = None;
                let answer = topics.answer(Instant::now()).map_err(ReadError::Failed);
                if !task.report(answer).await {
                    return None;
                }
            }
            () = time::sleep_until(stale_at) => {
                stale_at = time::Instant::now() + task.interval;
                let trouble = ReadError::Stale(format!(
                    "connected, but nothing new for {} s: {}",
                    last_heartbeat.elapsed().as_secs(),
                    topics.advice(),
                ));
                if !task.report(Err(trouble)).await {
                    return None;
                }
            }
        }
    }
}

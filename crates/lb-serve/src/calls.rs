//! Calls over gRPC, bounded in number.
//!
//! HTTP/2 has many calls on one connection, and each costs memory as long as it runs. So all calls of a server share
//! these bounds, whatever connection they come from.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// How long a call waits for its turn among those with large answers.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a turn lasts at most: a client that does not read must not keep all turns.
const TURN: Duration = Duration::from_secs(30);

/// What a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A short answer, or a stream of short ones.
    Small,
    /// An answer that may have megabytes.
    Large,
    /// A stream that lasts, with messages that may have megabytes.
    Following,
}

/// How many calls may run at once.
#[derive(Clone, Copy, Debug)]
pub struct MaxCalls {
    /// All of them; another one is refused.
    pub calls: usize,
    /// Calls with large answers; another one waits for its turn.
    pub large: usize,
    /// Streams that last; another one is refused.
    pub following: usize,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUse {
    /// What is limited.
    pub name: &'static str,
    /// In use now.
    pub used: usize,
    /// The limit.
    pub limit: usize,
    /// Refused so far.
    pub refused: u64,
}

/// One of the limits.
#[derive(Debug)]
struct Limit {
    name: &'static str,
    limit: usize,
    room: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Limit {
    fn new(name: &'static str, limit: usize) -> Self {
        Limit {
            name,
            limit,
            room: Arc::new(Semaphore::new(limit)),
            refused: AtomicU64::new(0),
        }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Status> {
        let room = Arc::clone(&self.room);
        room.try_acquire_owned().map_err(|_| self.refuse())
    }

    async fn take_turn(&self) -> Result<Turn, Status> {
        let room = Arc::clone(&self.room);
        match tokio::time::timeout(TURN_WAIT, room.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn::new(permit)),
            _ => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> Status {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            "{} {} are open; another one is refused",
            self.limit,
            self.name
        );
        Status::resource_exhausted(format!(
            "{} {} are open, which is the most that this server allows; end some of them or try again later",
            self.limit, self.name
        ))
    }

    fn current_use(&self) -> LimitUse {
        LimitUse {
            name: self.name,
            used: self.limit - self.room.available_permits().min(self.limit),
            limit: self.limit,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// A turn, which ends when it is dropped, or after [`TURN`].
struct Turn {
    _permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        let turn = Arc::new(Mutex::new(Some(permit)));
        let held = Arc::downgrade(&turn);
        tokio::spawn(async move {
            tokio::time::sleep(TURN).await;
            if let Some(turn) = held.upgrade() {
                turn.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
        Turn { _permit: turn }
    }
}

/// What a call holds until its answer has been sent.
struct Held {
    _call: OwnedSemaphorePermit,
    _following: Option<OwnedSemaphorePermit>,
    _turn: Option<Turn>,
}

/// The limits of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct CallLimits {
    limits: Arc<Limits>,
    cost: fn(&str) -> Cost,
}

#[derive(Debug)]
struct Limits {
    calls: Limit,
    large: Limit,
    following: Limit,
}

impl CallLimits {
    /// Limits; `cost` tells a call's cost from its path, such as `/lb.v1.Balancer/Watch`.
    #[must_use]
    pub fn new(max: MaxCalls, cost: fn(&str) -> Cost) -> Self {
        CallLimits {
            limits: Arc::new(Limits {
                calls: Limit::new("calls", max.calls),
                large: Limit::new("calls with large answers", max.large),
                following: Limit::new("streams of events or counters", max.following),
            }),
            cost,
        }
    }

    /// How much of each limit is used.
    #[must_use]
    pub fn current_use(&self) -> [LimitUse; 3] {
        let Limits {
            calls,
            large,
            following,
        } = &*self.limits;
        [calls, large, following].map(Limit::current_use)
    }

    async fn enter(&self, cost: Cost) -> Result<Held, Status> {
        let call = self.limits.calls.enter()?;
        let following = match cost {
            Cost::Following => Some(self.limits.following.enter()?),
            _ => None,
        };
        let turn = match cost {
            Cost::Large => Some(self.limits.large.take_turn().await?),
            _ => None,
        };
        Ok(Held {
            _call: call,
            _following: following,
            _turn: turn,
        })
    }
}

impl<S> Layer<S> for CallLimits {
    type Service = LimitedCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitedCalls {
            inner,
            limits: self.clone(),
        }
    }
}

/// A service with [`CallLimits`].
#[derive(Clone, Debug)]
pub struct LimitedCalls<S> {
    inner: S,
    limits: CallLimits,
}

impl<S, B> Service<Request<B>> for LimitedCalls<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that is ready is this one and not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let limits = self.limits.clone();
        Box::pin(async move {
            let cost = (limits.cost)(request.uri().path());
            let held = match limits.enter(cost).await {
                Ok(held) => held,
                Err(status) => return Ok(status.into_http()),
            };
            let response = inner.call(request).await?;
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    // Held until the body is dropped, which is when the answer has been sent or the client has gone.
                    let _ = &held;
                    frame
                }))
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: MaxCalls = MaxCalls {
        calls: 3,
        large: 1,
        following: 1,
    };

    fn cost(path: &str) -> Cost {
        match path {
            "/large" => Cost::Large,
            "/following" => Cost::Following,
            _ => Cost::Small,
        }
    }

    async fn call(limits: &CallLimits, path: &str) -> Response<Body> {
        let inner = tower::service_fn(|_: Request<()>| async {
            let answer = http_body_util::Full::new(bytes::Bytes::from_static(b"answer"));
            Ok::<_, Infallible>(Response::new(Body::new(answer)))
        });
        let mut service = limits.layer(inner);
        let request = Request::builder().uri(path).body(()).unwrap();
        service.call(request).await.unwrap()
    }

    fn refused(response: &Response<Body>) -> bool {
        // RESOURCE_EXHAUSTED
        response
            .headers()
            .get("grpc-status")
            .is_some_and(|status| status == "8")
    }

    #[tokio::test]
    async fn a_call_counts_until_its_answer_is_dropped() {
        let limits = CallLimits::new(MAX, cost);
        let mut open = Vec::new();
        for _ in 0..MAX.calls {
            open.push(call(&limits, "/small").await);
        }
        assert!(!open.iter().any(refused));
        assert!(refused(&call(&limits, "/small").await));
        let [calls, ..] = limits.current_use();
        assert_eq!((calls.used, calls.limit, calls.refused), (3, 3, 1));
        open.pop();
        assert!(!refused(&call(&limits, "/small").await));
    }

    #[tokio::test]
    async fn one_stream_too_many_is_refused() {
        let limits = CallLimits::new(MAX, cost);
        let first = call(&limits, "/following").await;
        assert!(refused(&call(&limits, "/following").await));
        assert!(!refused(&call(&limits, "/small").await));
        drop(first);
        assert!(!refused(&call(&limits, "/following").await));
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_take_turns_and_a_turn_ends() {
        let limits = CallLimits::new(MAX, cost);
        let first = call(&limits, "/large").await;
        // Nobody reads the first answer.
        assert!(refused(&call(&limits, "/large").await));
        tokio::time::sleep(TURN).await;
        assert!(!refused(&call(&limits, "/large").await));
        drop(first);
        assert!(!refused(&call(&limits, "/large").await));
    }
}

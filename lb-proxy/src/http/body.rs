//! Bodies on their way through the proxy: bounded in time and size, and with what has to happen at their end.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    cache::Filling,
    clock,
    http::OpenRequest,
    log::Record,
    patience::{GRACE, lateness},
    service::{Fault, Lease, Service},
    upstream::SharedStream,
};

/// How far a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// None of it was read.
    Untouched,
    /// A part of it was read.
    Started,
    /// All of it was read.
    Finished,
    /// The client sent something that is no body, or left.
    Broken,
    /// The client paused for too long.
    TimedOut,
    /// It has more bytes than are allowed.
    TooLarge,
}

/// How far a request's body is, and when it last moved.
#[derive(Debug)]
pub struct Progress {
    stage: AtomicU8,
    moved: AtomicU64,
}

impl Progress {
    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
        self.moved.store(clock::now_millis(), Relaxed);
    }

    /// Returns how far it is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Untouched,
            1 => Stage::Started,
            2 => Stage::Finished,
            3 => Stage::Broken,
            4 => Stage::TimedOut,
            _ => Stage::TooLarge,
        }
    }

    /// Returns the time since it last moved.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        Duration::from_millis(clock::now_millis().saturating_sub(self.moved.load(Relaxed)))
    }
}

/// Why a body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The sender broke off, or sent what is no body.
    Broken,
    /// The sender paused for too long.
    TimedOut,
    /// It is too large.
    TooLarge,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::Broken => "the body broke off",
            BodyError::TimedOut => "the body paused for too long",
            BodyError::TooLarge => "the body is too large",
        })
    }
}

impl Error for BodyError {}

/// The time that a body may pause. The timer exists only while it does.
#[derive(Debug)]
struct Pause {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// This process woke up late, and waits for a moment more.
    is_late: bool,
}

impl Pause {
    const fn new(most: Duration) -> Self {
        Pause {
            most,
            timer: None,
            is_late: false,
        }
    }

    fn end(&mut self) {
        self.timer = None;
        self.is_late = false;
    }

    /// Ready when the pause is too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let most = self.most;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(most)));
        ready!(timer.as_mut().poll(context));
        if self.is_late || lateness(timer.deadline()).is_none() {
            return Poll::Ready(());
        }
        // What was sent meanwhile may just be on its way from the connection's task.
        self.is_late = true;
        timer.as_mut().reset(Instant::now() + GRACE);
        timer.as_mut().poll(context)
    }
}

/// The body of a request on its way to an instance.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Streaming>>);

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    pause: Pause,
    left: u64,
    progress: Arc<Progress>,
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn none() -> Self {
        RequestBody(None)
    }

    /// A body of a client: it may pause for `pause` and have `most` bytes (0: any number).
    #[must_use]
    pub fn streaming(incoming: Incoming, pause: Duration, most: u64) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress {
            stage: AtomicU8::new(Stage::Untouched as u8),
            moved: AtomicU64::new(clock::now_millis()),
        });
        let streaming = Streaming {
            incoming,
            pause: Pause::new(pause),
            left: if most == 0 { u64::MAX } else { most },
            progress: Arc::clone(&progress),
        };
        (RequestBody(Some(Box::new(streaming))), progress)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let failed = |progress: &Progress, stage, error| {
            progress.set(stage);
            Poll::Ready(Some(Err(error)))
        };
        match Pin::new(&mut body.incoming).poll_frame(context) {
            Poll::Pending => match body.pause.poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => failed(&body.progress, Stage::TimedOut, BodyError::TimedOut),
            },
            Poll::Ready(None) => {
                body.progress.set(Stage::Finished);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => failed(&body.progress, Stage::Broken, BodyError::Broken),
            Poll::Ready(Some(Ok(frame))) => {
                body.pause.end();
                if let Some(data) = frame.data_ref() {
                    match body.left.checked_sub(data.len() as u64) {
                        Some(left) => body.left = left,
                        None => {
                            return failed(&body.progress, Stage::TooLarge, BodyError::TooLarge);
                        }
                    }
                }
                body.progress.set(match body.incoming.is_end_stream() {
                    true => Stage::Finished,
                    false => Stage::Started,
                });
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|body| body.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |body| body.incoming.size_hint())
    }
}

/// The connection that an answer comes on.
#[derive(Debug)]
pub enum Carrier {
    /// It can carry another request after the answer.
    Http1(http1::SendRequest<RequestBody>),
    /// Its stream ends with the answer. The sender keeps the connection open until then.
    Http2(SharedStream, http2::SendRequest<RequestBody>),
    /// It ends with the answer.
    Single,
}

/// The body of an instance's answer.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    pause: Pause,
    lease: Option<Lease>,
    carrier: Option<Carrier>,
    service: Arc<Service>,
    /// The body of the request, if it had one.
    request: Option<Arc<Progress>>,
    filling: Option<Box<Filling>>,
}

impl AnswerBody {
    /// The body of an answer that comes on `carrier`.
    #[must_use]
    pub fn new(
        incoming: Incoming,
        pause: Duration,
        lease: Lease,
        carrier: Carrier,
        service: Arc<Service>,
        request: Option<Arc<Progress>>,
    ) -> Self {
        let mut body = AnswerBody {
            incoming,
            pause: Pause::new(pause),
            lease: Some(lease),
            carrier: Some(carrier),
            service,
            request,
            filling: None,
        };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// Copies the body into the cache.
    pub fn fill(&mut self, mut filling: Filling) {
        if self.lease.is_none() {
            filling.finish();
        } else {
            self.filling = Some(Box::new(filling));
        }
    }

    /// The answer is complete: its connection can carry the next request.
    fn end(&mut self) {
        if let Some(mut filling) = self.filling.take() {
            filling.finish();
        }
        let Some(lease) = self.lease.take() else {
            return;
        };
        let is_sent = self
            .request
            .as_ref()
            .is_none_or(|request| request.stage() == Stage::Finished);
        if let Some(Carrier::Http1(sender)) = self.carrier.take()
            && is_sent
        {
            let settings = self.service.settings.load();
            lease
                .instance()
                .pool
                .give(sender, settings.max_idle as usize);
        }
    }

    /// The answer is cut.
    fn fail(&mut self, fault: Fault) {
        self.filling = None;
        // What did not come although this process slept says nothing about the instance.
        let is_own = self.pause.is_late;
        self.carrier = None;
        let is_clients = self
            .request
            .as_ref()
            .is_some_and(|request| !matches!(request.stage(), Stage::Finished | Stage::Untouched));
        if let Some(lease) = self.lease.take()
            && !is_clients
            && !is_own
        {
            self.service.note_failure(lease.instance(), fault);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Pending => {
                ready!(self.pause.poll(context));
                self.fail(Fault::TimedOut);
                return Poll::Ready(Some(Err(BodyError::TimedOut)));
            }
            Poll::Ready(frame) => frame,
        };
        self.pause.end();
        match frame {
            None => {
                self.end();
                Poll::Ready(None)
            }
            Some(Err(_)) => {
                self.fail(Fault::Cut);
                Poll::Ready(Some(Err(BodyError::Broken)))
            }
            Some(Ok(frame)) => {
                if let (Some(filling), Some(data)) = (&mut self.filling, frame.data_ref()) {
                    filling.push(data);
                }
                // The server does not poll to the end of a body whose length it knows.
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Answer(Box<AnswerBody>),
}

/// The body of an answer to a client.
#[derive(Debug)]
pub struct Body {
    content: Content,
    record: Option<Box<Record>>,
    request: Option<OpenRequest>,
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn none() -> Self {
        Body {
            content: Content::Whole(None),
            record: None,
            request: None,
        }
    }

    /// A body that is here.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Body {
            content: Content::Whole((!bytes.is_empty()).then_some(bytes)),
            record: None,
            request: None,
        }
    }

    /// Keeps the request open until the body is dropped.
    pub fn hold(&mut self, request: OpenRequest) {
        self.request = Some(request);
    }

    /// Attaches the record of the request, which is written when the body has been sent.
    pub fn record(&mut self, record: Record) {
        self.record = Some(Box::new(record));
    }
}

impl From<AnswerBody> for Body {
    fn from(answer: AnswerBody) -> Self {
        Body {
            content: Content::Answer(Box::new(answer)),
            record: None,
            request: None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Answer(answer) => ready!(answer.poll(context)),
        };
        if let Some(record) = &mut this.record {
            match &frame {
                Some(Ok(frame)) => record.count(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(error)) => record.cut(*error),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Answer(answer) => answer.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Answer(answer) => answer.incoming.size_hint(),
        }
    }
}

//! A client's connection over HTTP/1.1 with a time limit for the head of each request, and one for the time between two.
//!
//! Between two requests a connection needs none of the buffers that it is read and written with, which are most of its
//! memory. So one that has been idle for a second is parked: hyper gives it up, and begins anew with the next byte.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Instant, Sleep, sleep_until},
};

use crate::{http::Client, net::Stream};

/// What a client gets whose head does not come in time.
const ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 59\r\n\r\n\
    408 Request Timeout: the head of the request took too long\n";
/// Its status.
const STATUS: u16 = 408;
/// After this time without a request a connection is parked.
pub const PARK: Duration = Duration::from_secs(1);

/// Where a connection is parked.
#[derive(Clone, Debug, Default)]
pub struct Seat(Arc<Mutex<Option<Stream>>>);

impl Seat {
    fn park(&self, stream: Option<Stream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }

    /// Takes the connection back, if it was parked.
    #[must_use]
    pub fn take(&self) -> Option<Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection over HTTP/1.1. A client that sends a part of a head and not the rest in time gets 408; one that sends nothing
/// for long is closed. One timer is enough for both, and it is not touched by each request: when it goes off too early, it
/// is set to what is left.
#[derive(Debug)]
pub struct HeadLimited {
    /// `None`: it is parked.
    stream: Option<Stream>,
    seat: Seat,
    client: Arc<Client>,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// The end of an answer waits for the client to read.
    owes: bool,
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for answers.
    Busy,
    /// It has nothing to wait for.
    Idle,
    /// It has begun a head after so many requests.
    Head(u64),
}

impl HeadLimited {
    /// Limits a connection, which is parked on this seat.
    #[must_use]
    pub fn new(stream: Stream, client: Arc<Client>, seat: Seat) -> Self {
        HeadLimited {
            stream: Some(stream),
            seat,
            client,
            phase: Phase::Idle,
            since: Instant::now(),
            timer: None,
            owes: false,
        }
    }

    /// Follows what has become of requests since the last look.
    fn follow(&mut self) {
        let is_read = match self.phase {
            Phase::Head(before) => self.client.requests() > before,
            _ => true,
        };
        match self.client.is_idle() {
            false => self.phase = Phase::Busy,
            true if is_read && self.phase != Phase::Idle => self.enter(Phase::Idle),
            true => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    /// Ready when the time of the phase is over.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let listener = &self.client.listener;
        let limit = match self.phase {
            Phase::Busy => return Poll::Pending,
            Phase::Idle if self.owes => listener.idle_timeout,
            Phase::Idle => listener.idle_timeout.min(PARK),
            Phase::Head(_) => listener.head_timeout,
        };
        let due = self.since + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(context));
        if timer.deadline() < due {
            timer.as_mut().reset(due);
            return timer.as_mut().poll(context);
        }
        Poll::Ready(())
    }

    /// Says that the head took too long, as far as that can be said at once.
    fn refuse(&mut self, context: &mut Context<'_>) {
        self.client.shared.totals.count(STATUS);
        if let Some(stream) = &mut self.stream
            && !self.owes
        {
            let mut stream = Pin::new(stream);
            // A client that does not read either learns nothing.
            let _ = stream.as_mut().poll_write(context, ANSWER);
            let _ = stream.poll_flush(context);
        }
    }

    /// Notes whether all of what was to be written was.
    fn note(&mut self, written: &Poll<io::Result<usize>>, length: usize) {
        self.owes = !matches!(written, Poll::Ready(Ok(count)) if *count == length);
    }
}

impl AsyncRead for HeadLimited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(Ok(()));
        };
        let read = Pin::new(stream).poll_read(context, buffer);
        this.follow();
        if read.is_ready() {
            if this.phase == Phase::Idle {
                this.enter(Phase::Head(this.client.requests()));
            }
            return read;
        }
        ready!(this.poll_over(context));
        match this.phase {
            Phase::Head(_) => this.refuse(context),
            _ if this.owes || this.client.listener.idle_timeout <= PARK => {}
            // This looks like its end.
            _ => {
                this.seat.park(this.stream.take());
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for HeadLimited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = Pin::new(stream).poll_write(context, bytes);
        self.note(&written, bytes.len());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = Pin::new(stream).poll_write_vectored(context, buffers);
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.note(&written, length);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        // It comes after the last write. TLS has a buffer of its own.
        let flushed = Pin::new(stream).poll_flush(context);
        self.owes = flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

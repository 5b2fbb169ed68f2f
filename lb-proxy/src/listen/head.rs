//! A client's connection over HTTP/1.1 with a time limit for the head of each request, and one for the time between two.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{http::Client, net::Stream};

/// What a client gets whose head does not come in time.
const ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 59\r\n\r\n\
    408 Request Timeout: the head of the request took too long\n";
/// Its status.
const STATUS: u16 = 408;

/// A connection over HTTP/1.1. A client that sends a part of a head and not the rest in time gets 408; one that sends nothing
/// for long is closed. One timer is enough for both, and it is not touched by each request: when it goes off too early, it
/// is set to what is left.
#[derive(Debug)]
pub struct HeadLimited {
    stream: Stream,
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
    /// Limits a connection.
    #[must_use]
    pub fn new(stream: Stream, client: Arc<Client>) -> Self {
        HeadLimited {
            stream,
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
            Phase::Idle => listener.idle_timeout,
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
        if !self.owes {
            let mut stream = Pin::new(&mut self.stream);
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
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.follow();
        if read.is_ready() {
            if this.phase == Phase::Idle {
                this.enter(Phase::Head(this.client.requests()));
            }
            return read;
        }
        ready!(this.poll_over(context));
        if matches!(this.phase, Phase::Head(_)) {
            this.refuse(context);
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written, bytes.len());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.note(&written, length);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! A client's connection with a time limit for the head of each request.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{http::Client, net::Stream};

/// A connection over HTTP/1.1. hyper has one limit for the head and for the time between two requests; this adds one for
/// the head alone: from its first byte until the request is there.
#[derive(Debug)]
pub struct HeadLimited {
    stream: Stream,
    client: Arc<Client>,
    deadline: Option<Pin<Box<Sleep>>>,
    is_in_head: bool,
}

impl HeadLimited {
    /// Limits a connection.
    #[must_use]
    pub const fn new(stream: Stream, client: Arc<Client>) -> Self {
        HeadLimited {
            stream,
            client,
            deadline: None,
            is_in_head: false,
        }
    }
}

impl AsyncRead for HeadLimited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let is_idle = this.client.is_idle();
        if !is_idle && this.is_in_head {
            this.is_in_head = false;
            this.deadline = None;
        }
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        match &read {
            Poll::Ready(_) => this.is_in_head = is_idle,
            Poll::Pending if this.is_in_head => {
                let limit = this.client.listener.head_timeout;
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
                if deadline.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for HeadLimited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
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

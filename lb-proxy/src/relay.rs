//! Bytes passed on between two connections.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::sleep,
};

use crate::clock;

/// Passes bytes on in both directions until both have ended, one failed, or neither moved for `pause`. Returns the bytes
/// from the first to the second, and back.
///
/// # Errors
/// One of the connections failed, or both were silent (`TimedOut`).
pub async fn relay<A, B>(first: A, second: B, pause: Duration) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Arc::new(AtomicU64::new(clock::now_millis()));
    let mut first = Watched::new(first, &moved);
    let mut second = Watched::new(second, &moved);
    let silence = async {
        loop {
            let quiet = clock::now_millis().saturating_sub(moved.load(Relaxed));
            match pause.checked_sub(Duration::from_millis(quiet)) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    };
    tokio::select! {
        ended = copy_bidirectional(&mut first, &mut second) => ended,
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A connection that notes when it last moved.
struct Watched<T> {
    stream: T,
    moved: Arc<AtomicU64>,
}

impl<T> Watched<T> {
    fn new(stream: T, moved: &Arc<AtomicU64>) -> Self {
        Watched {
            stream,
            moved: Arc::clone(moved),
        }
    }

    fn note(&self) {
        self.moved.store(clock::now_millis(), Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.note();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_a_half_closed_side_still_reads() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let relayed = tokio::spawn(relay(near, far, Duration::from_secs(60)));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        assert_eq!(relayed.await.unwrap().unwrap(), (8, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (_client, near) = duplex(64);
        let (far, _server) = duplex(64);
        let error = relay(near, far, Duration::from_millis(20))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

//! The limit of the bytes of one answer.
//!
//! The PostgreSQL client buffers a message until it is complete, and the header of a message can declare 2 GiB. So the bytes are counted before
//! the client reads them. Below TLS this is right too: a decrypted answer is not larger than the encrypted one.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of bytes that the server may still send. Negative after it sent more.
#[derive(Debug)]
pub(super) struct AnswerLimit(AtomicI64);

impl AnswerLimit {
    pub(super) fn new(bytes: u64) -> Self {
        let limit = Self(AtomicI64::new(0));
        limit.set(bytes);
        limit
    }

    /// Permits `bytes` from now on, for the next answer.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Whether the server sent more than it may.
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    fn count(&self, bytes: usize) {
        self.0.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

/// A connection that fails as soon as the server exceeds the limit.
pub(super) struct LimitedStream<S> {
    pub(super) stream: S,
    pub(super) limit: Arc<AnswerLimit>,
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.limit.count(buf.filled().len() - before);
        if self.limit.is_exceeded() {
            return Poll::Ready(Err(Error::new(ErrorKind::FileTooLarge, "the answer is too large")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn each_answer_may_have_the_limit_and_no_byte_more() {
        let limit = Arc::new(AnswerLimit::new(4));
        let mut stream = LimitedStream { stream: tokio::io::repeat(b'x'), limit: Arc::clone(&limit) };
        for _ in 0..3 {
            limit.set(4);
            stream.read_exact(&mut [0; 4]).await.unwrap();
            assert!(!limit.is_exceeded());
        }
        stream.read_exact(&mut [0; 1]).await.unwrap_err();
        assert!(limit.is_exceeded());
    }
}

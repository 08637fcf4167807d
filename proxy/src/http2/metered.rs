//! The client's socket as the HTTP/2 library sees it: some octets were read already, frames are
//! counted, and nothing waits for ever.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Coalesced, Ended, meter::Meter};
use crate::{connection::reset_at_close, options::Limits};

pub(super) struct Metered {
    stream: Coalesced,
    read: BytesMut,
    meter: Meter,
    limits: Limits,
    /// Why the library is told that the socket is broken.
    ended: Rc<Cell<Option<Ended>>>,
    head_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub(super) fn new(
        stream: Coalesced,
        read: BytesMut,
        limits: Limits,
        ended: Rc<Cell<Option<Ended>>>,
    ) -> Self {
        let meter = Meter::new(Instant::now());
        Self { stream, read, meter, limits, ended, head_timer: None, write_timer: None }
    }

    fn end<T>(&self, ended: Ended) -> Poll<io::Result<T>> {
        self.ended.set(Some(ended));
        reset_at_close(self.stream.as_ref());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, ended)))
    }

    fn poll_octets(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let octets = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..octets]);
        self.read.advance(octets);
        Poll::Ready(Ok(()))
    }

    fn note_write(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
        last: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = result {
            self.note_taken();
            if let Ok(octets) = result {
                self.meter.wrote(octets);
                if let Some(limit) = named_by_library(last) {
                    self.ended.set(Some(Ended::Library(limit)));
                }
            }
            return Poll::Ready(result);
        }
        self.wait(cx)
    }

    fn note_taken(&mut self) {
        if !self.stream.is_blocked() {
            self.write_timer = None;
        }
    }

    /// For the client to read on.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limits.stall_time;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(timer.as_mut().poll(cx));
        self.end(Ended::NotRead)
    }
}

/// The limit that the library's GOAWAY names, if that is what was written. Its error does not say.
fn named_by_library(written: &[u8]) -> Option<&'static str> {
    const LIMITS: [(&[u8], &str); 5] = [
        (b"too_many_resets", "too many streams reset before they were taken up"),
        (b"too_many_internal_resets", "too many stream errors"),
        (b"too_many_continuations", "too many CONTINUATION frames"),
        (b"too_many_data_frames", "too many small DATA frames"),
        (b"header_list_way_too_large", "request head far too large"),
    ];
    const GOAWAY: u8 = 7;
    let (name, words) = LIMITS.iter().find(|(name, _)| written.ends_with(name))?;
    // Header, last stream, error code, and then the name: RFC 9113 §6.8.
    let frame = written.len().checked_sub(9 + 8 + name.len())?;
    (written[frame + 3] == GOAWAY).then_some(words)
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = self.poll_octets(cx, buf);
        if result.is_ready() {
            let new = &buf.filled()[before..];
            if let Err(excess) = self.meter.read(new, Instant::now()) {
                return self.end(Ended::Excess(excess));
            }
        }
        // Octet by octet is progress too, so the clock runs on whatever comes.
        match self.meter.head_began() {
            None => self.head_timer = None,
            Some(began) => {
                let deadline = began + self.limits.head_time;
                let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(cx).is_ready() {
                    return self.end(Ended::HeadTime);
                }
            }
        }
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(cx, result, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let last = bufs.iter().rev().find(|buf| !buf.is_empty());
        self.note_write(cx, result, last.map_or(&[], |buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if result.is_pending() {
            return self.wait(cx);
        }
        self.note_taken();
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_goaway_names_a_limit() {
        let frame = |kind: u8, debug: &str| {
            let length = u8::try_from(8 + debug.len()).unwrap();
            [&[0, 0, length, kind, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 11], debug.as_bytes()].concat()
        };
        let named = |octets: &[u8]| named_by_library(octets);
        assert_eq!(
            named(&frame(7, "too_many_resets")),
            Some("too many streams reset before they were taken up")
        );
        let behind_another = [frame(0, "body"), frame(7, "too_many_internal_resets")].concat();
        assert_eq!(named(&behind_another), Some("too many stream errors"));
        assert_eq!(named(&frame(0, "too_many_resets")), None, "the end of a body");
        assert_eq!(named(b"too_many_resets"), None);
        assert_eq!(named(b""), None);
    }
}

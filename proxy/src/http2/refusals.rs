//! Streams that the HTTP/2 library refuses by itself: it resets them before there is a request, so
//! only what it writes to the client tells of them. Each gets its record.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{capture::Flow, record::Recording, worker::Worker};

const HEADER: usize = 9;
const RST_STREAM: u8 = 3;

/// The client's socket as the library sees it, whatever it is made of.
pub(super) struct Refusals<S> {
    socket: S,
    frames: Frames,
    worker: Rc<Worker>,
    flow: Flow,
}

impl<S> Refusals<S> {
    pub(super) fn new(socket: S, worker: Rc<Worker>, flow: Flow) -> Self {
        Self { socket, frames: Frames::default(), worker, flow }
    }

    fn wrote(&mut self, octets: &[u8]) {
        let Self { frames, worker, flow, .. } = self;
        frames.read(octets, |code| {
            if let Some(what) = refusal(code) {
                let mut recording = Recording::start(worker, flow);
                recording.protocol("HTTP/2");
                recording.refused(what);
            }
        });
    }
}

/// What an error code says of the client's request; `None`: nothing is wrong with that.
fn refusal(code: u32) -> Option<&'static str> {
    match code {
        1 => Some("HTTP/2: malformed request (PROTOCOL_ERROR)"),
        3 => Some("HTTP/2: body over its window (FLOW_CONTROL_ERROR)"),
        6 => Some("HTTP/2: frame of a wrong size (FRAME_SIZE_ERROR)"),
        9 => Some("HTTP/2: malformed header block (COMPRESSION_ERROR)"),
        _ => None,
    }
}

/// Finds the RST_STREAM frames (RFC 9113 §6.4) in what is written, however it is cut.
#[derive(Default)]
struct Frames {
    /// A frame's header and, of an RST_STREAM, its payload.
    head: [u8; HEADER + 4],
    have: usize,
    skip: usize,
}

impl Frames {
    fn read(&mut self, mut octets: &[u8], mut reset: impl FnMut(u32)) {
        loop {
            let passed = self.skip.min(octets.len());
            self.skip -= passed;
            octets = &octets[passed..];
            let Some((octet, behind)) = octets.split_first() else { return };
            octets = behind;
            self.head[self.have] = *octet;
            self.have += 1;
            let [a, b, c, kind, _, _, _, _, _, code @ ..] = self.head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let is_reset = kind == RST_STREAM && length == 4;
            if self.have == HEADER && !is_reset {
                (self.have, self.skip) = (0, length);
            } else if self.have == self.head.len() {
                self.have = 0;
                reset(u32::from_be_bytes(code));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusals<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Refusals<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(octets)) = result {
            self.wrote(&buf[..octets]);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut octets)) = result {
            for buf in bufs {
                let part = octets.min(buf.len());
                self.wrote(&buf[..part]);
                octets -= part;
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_found_however_they_are_cut() {
        let frames = [
            &[0, 0, 3, 0, 0, 0, 0, 0, 1, 3, 3, 3][..],
            &[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 1],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 3, 0, 0, 0, 8],
        ]
        .concat();
        for size in 1..=frames.len() {
            let (mut found, mut reader) = (Vec::new(), Frames::default());
            frames.chunks(size).for_each(|octets| reader.read(octets, |code| found.push(code)));
            assert_eq!(found, [1, 8], "{size} at a time");
        }
    }
}

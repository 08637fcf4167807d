//! Reads without holding memory while there is nothing to read.

use std::{cell::Cell, future::poll_fn, io, pin::pin};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Octets of one read.
pub(super) const ROOM: usize = 64 << 10;

thread_local! {
    /// A buffer that nobody reads into now: a connection that waits for octets has none of its own.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Reads up to `most` octets of what is there behind what is held already. 0: the stream has ended.
///
/// # Errors
/// The stream's own.
pub(super) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut BytesMut,
    most: usize,
) -> io::Result<usize> {
    poll_fn(|cx| {
        // What is held already is moved only where there is no room left at all: a frame that is held
        // whole has its own.
        if to.is_empty() && to.capacity() < ROOM / 2 {
            *to = SPARE.take();
            to.reserve(ROOM);
        } else if to.capacity() == to.len() {
            to.reserve(ROOM);
        }
        let read = pin!(from.read_buf(&mut to.limit(most))).poll(cx);
        if read.is_pending() && to.is_empty() {
            SPARE.set(std::mem::take(to));
        }
        read
    })
    .await
}

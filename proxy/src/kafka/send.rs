//! Writes what an outbox holds.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    task::{Poll, ready},
};

use bytes::Buf;
use tokio::net::TcpStream;

/// Pieces that go out with one write.
const PIECES: usize = 64;

/// Writes some of it.
///
/// # Errors
/// The stream's own.
pub(super) async fn send(to: &TcpStream, octets: &mut impl Buf) -> io::Result<()> {
    poll_fn(|cx| {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let written = {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let number = octets.chunks_vectored(&mut pieces);
                to.try_write_vectored(&pieces[..number])
            };
            return Poll::Ready(match written {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    octets.advance(written);
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => Err(error),
            });
        }
    })
    .await
}

//! Carries one Kafka connection: octets into the engine, and what it makes of them out again.

mod session;

pub(crate) use session::serve;

use std::{io, time::Instant};

use bytes::{Buf, BytesMut};
use l7_parsers::kafka::{Closing, Ends, Engine, Limits, Policy, Record};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// One of the two sides closed it.
    Closed,
    /// A request or an answer was refused.
    Refused(Closing),
}

/// Carries a connection until it ends. `read` came from the client already. `judge` is asked for the
/// policy in force before anything is judged, `record` gets each request when it has ended, and `moved`
/// hears how many are not answered yet whenever octets have moved.
///
/// # Errors
/// The two sockets' own.
pub async fn carry<C, B, P>(
    client: C,
    broker: B,
    read: BytesMut,
    limits: Limits,
    mut judge: impl FnMut() -> P,
    mut record: impl FnMut(Record),
    mut moved: impl FnMut(usize),
) -> io::Result<End>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
    P: Policy,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut broker_read, mut broker_write) = tokio::io::split(broker);
    let mut engine = Engine::new(limits);
    *engine.ends().from_client = read;
    let mut asking = Asking::On;
    loop {
        engine.advance(&judge(), Instant::now());
        while let Some(ended) = engine.record() {
            record(ended);
        }
        moved(engine.in_flight());
        let (reads_client, reads_broker) = (engine.wants_client(), engine.wants_broker());
        let (closed, due) = (engine.closed(), engine.in_flight());
        let Ends { from_client, from_broker, to_client, to_broker } = engine.ends();
        let (answers, asks) = (to_client.has_remaining(), to_broker.has_remaining());
        if !answers && !asks {
            let end = match closed {
                Some(closing) => Some(End::Refused(closing)),
                // A client that only sends (no answers are due to it) may close right after.
                None if asking == Asking::Over && due == 0 => Some(End::Closed),
                None => None,
            };
            if let Some(end) = end {
                broker_write.shutdown().await?;
                client_write.shutdown().await?;
                return Ok(end);
            }
        }
        tokio::select! {
            octets = receive(&mut client_read, from_client), if reads_client && asking == Asking::On => {
                if octets? == 0 {
                    asking = Asking::Over;
                }
            }
            octets = receive(&mut broker_read, from_broker), if reads_broker => {
                if octets? == 0 {
                    while to_client.has_remaining() {
                        client_write.write_buf(to_client).await?;
                    }
                    client_write.shutdown().await?;
                    return Ok(End::Closed);
                }
            }
            written = client_write.write_buf(to_client), if answers => { written?; }
            written = broker_write.write_buf(to_broker), if asks => { written?; }
        }
    }
}

/// Whether the client may still ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    On,
    Over,
}

async fn receive(from: &mut (impl AsyncRead + Unpin), to: &mut BytesMut) -> io::Result<usize> {
    const ROOM: usize = 16 << 10;
    if to.capacity() - to.len() < ROOM / 4 {
        to.reserve(ROOM);
    }
    from.read_buf(to).await
}

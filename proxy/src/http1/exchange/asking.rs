//! The client's half of an exchange: its request body, then whether it is still there.

use std::future::{pending, poll_fn};
use std::task::Poll;

use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Progress;
use crate::{
    http1::{
        clock::Clock,
        refused::Refused,
        relay::{Relay, RelayError, Times},
    },
    worker::Worker,
};

/// How much of later requests is read while one is being answered.
const AHEAD: usize = 16 << 10;

pub(super) struct Asking<'a> {
    pub(super) from: ReadHalf<'a>,
    pub(super) to: WriteHalf<'a>,
    pub(super) held: &'a mut Vec<u8>,
    pub(super) ended: &'a mut bool,
    pub(super) clock: &'a mut Clock,
    pub(super) progress: &'a Progress,
}

/// Why nothing can come of the exchange.
pub(super) enum Broken {
    Refused(Refused),
    /// The client has left.
    Lost,
}

impl Asking<'_> {
    /// Sends the request's body, then watches the client. Ends only where one of them fails.
    pub(super) async fn run(self, up: &mut Relay<'_>, worker: &Worker) -> Broken {
        let Self { mut from, mut to, held, ended, clock, progress } = self;
        let limits = &worker.limits;
        if !up.is_done() {
            // A head that did not go in one piece; what comes behind it may have to wait.
            let times = Times { read: limits.stall_time, write: limits.response_time };
            let mut sent = up.flush(&mut to, clock, &times).await;
            if sent.is_ok() {
                poll_fn(|_| if progress.gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
                sent = up.run(&mut from, &mut to, held, clock, &times, worker).await;
            }
            match sent {
                Ok(()) => progress.sent.set(true),
                Err(RelayError::Malformed(refusal)) => return Broken::Refused(Refused::Malformed(refusal)),
                Err(RelayError::ReadTime) => return Broken::Refused(Refused::Stalled),
                Err(RelayError::Truncated) => return Broken::Refused(Refused::CutOff),
                Err(RelayError::Read) => return Broken::Lost,
                // The server takes no more of it: what it answers decides.
                Err(RelayError::Write | RelayError::WriteTime) => return pending().await,
            }
        }
        while !*ended && held.len() < AHEAD {
            match poll_fn(|cx| worker.poll_read_more(&mut from, held, cx)).await {
                Ok(0) => *ended = true,
                Ok(_) => {}
                Err(_) => return Broken::Lost,
            }
        }
        pending().await
    }
}

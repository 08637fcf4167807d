//! One direction of a connection: octets that only pass go by a pipe, all others through the engine.

use std::future::pending;

use bytes::BytesMut;
use futures::FutureExt;
use l7_parsers::kafka::Passing;
use tokio::net::{TcpStream, tcp::ReadHalf};

use super::{
    pipe::{Behind, Filled, Pipe},
    receive::{ROOM, receive},
};

/// From this size on what passes is worth a pipe.
const LEAST: usize = 64 << 10;

/// Octets of a read after some have passed: what comes then is the start of a message whose records may
/// pass again, and so are better left where they are.
const START: usize = 1 << 10;

#[derive(Default)]
pub(super) struct Passage {
    pipe: Pipe,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Reads,
    /// Until the engine has no more that passes.
    Passes,
    /// The engine reads what comes behind.
    HasPassed,
    /// There is no pipe for this message.
    Copies,
}

/// What one step brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Octets, to the engine.
    In,
    /// So many octets, past the engine.
    Past(usize),
    /// The source has ended.
    End,
}

/// Whose error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Source,
    Sink,
}

/// Whether more may be taken from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fills {
    On,
    Not,
}

impl Fills {
    pub(super) fn when(may: bool) -> Self {
        if may { Self::On } else { Self::Not }
    }
}

impl Passage {
    /// Octets that are neither the source's nor the sink's.
    pub(super) fn held(&self) -> usize {
        self.pipe.held()
    }

    /// Moves what comes next: `passing` past the engine, anything else to it. Whoever stops waiting loses
    /// nothing.
    pub(super) async fn move_on(
        &mut self,
        source: &mut ReadHalf<'_>,
        engine: &mut BytesMut,
        sink: &TcpStream,
        passing: Passing,
        fills: Fills,
    ) -> Result<Moved, Failed> {
        self.state = match self.state {
            State::Reads | State::HasPassed if passing.octets >= LEAST => State::Passes,
            State::Passes if passing.octets == 0 => State::HasPassed,
            State::Copies if passing.octets == 0 => State::Reads,
            state => state,
        };
        if fills == Fills::Not && (self.state != State::Passes || self.pipe.held() == 0) {
            return pending().await;
        }
        if self.state == State::Passes {
            return self.pass(source.as_ref(), sink, passing).await;
        }
        let portion = if self.state == State::HasPassed { START } else { ROOM };
        match receive(source, engine, portion).await {
            Ok(0) => Ok(Moved::End),
            Ok(_) => {
                if self.state == State::HasPassed {
                    self.state = State::Reads;
                }
                Ok(Moved::In)
            }
            Err(_) => Err(Failed::Source),
        }
    }

    async fn pass(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        passing: Passing,
    ) -> Result<Moved, Failed> {
        // The reader needs not be woken for the piece at the end of these: it waits for more of the message.
        let behind = |held| match passing.octets == held && passing.behind == 0 {
            true => Behind::Nothing,
            false => Behind::More,
        };
        let moved = if self.pipe.held() == 0 {
            match self.pipe.fill(source, passing.octets).await {
                Ok(Filled::Holds) => {}
                Ok(Filled::End) => return Ok(Moved::End),
                Ok(Filled::Impossible) => {
                    self.state = State::Copies;
                    return Ok(Moved::Past(0));
                }
                Err(_) => return Err(Failed::Source),
            }
            // What cannot go on at once is to be counted as held before anybody waits for it.
            let behind = behind(self.pipe.held());
            self.pipe.empty(sink, behind).now_or_never().unwrap_or(Ok(0))
        } else {
            let behind = behind(self.pipe.held());
            self.pipe.empty(sink, behind).await
        };
        moved.map(Moved::Past).map_err(|_| Failed::Sink)
    }
}

//! Carries one Kafka connection: octets into the engine, and what it makes of them out again.

mod passage;
mod pipe;
mod receive;
mod send;
mod session;

pub(crate) use pipe::PIPES;
pub(crate) use session::serve;

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Buf;
use l7_parsers::kafka::{Closing, Cut, Ends, Engine, Record};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use self::{
    passage::{Failed, Fills, Moved, Passage},
    send::send,
};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed it, and was owed nothing, or broke it off.
    Client,
    Broker,
    /// A request or an answer was refused.
    Refused(Closing),
}

impl End {
    /// What it was to requests that have no answer.
    #[must_use]
    pub fn cut(self) -> Cut {
        match self {
            Self::Client => Cut::Client,
            Self::Broker => Cut::Broker,
            Self::Refused(_) => Cut::Refused,
        }
    }
}

/// What is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Request,
    Answer,
}

/// What a connection needs of whoever carries it.
pub trait Surroundings {
    /// Has what came judged by the policy in force ([`Engine::advance`]).
    fn judge(&self, engine: &mut Engine);

    /// A request has ended.
    fn record(&self, record: Record);

    /// Octets have moved.
    fn moved(&self, _engine: &Engine) {}

    /// The connection holds so many octets now.
    fn holds(&self, _octets: usize) {}

    /// Whether it may hold more.
    fn has_room(&self, _next: Next) -> bool {
        true
    }

    /// Ready when it may hold more.
    fn poll_room(&self, _next: Next, _cx: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Carries a connection until it ends; the engine may hold what came from the client already. What has
/// no answer then has no record yet: that is for the caller, who knows why it stops ([`Engine::cut`]).
pub async fn carry<S: Surroundings>(
    engine: &mut Engine,
    client: &mut TcpStream,
    broker: &mut TcpStream,
    around: &S,
) -> End {
    let (mut client_read, mut client_write) = client.split();
    let (mut broker_read, mut broker_write) = broker.split();
    let (mut requests, mut answers) = (Passage::default(), Passage::default());
    let mut asking = Asking::On;
    let mut step = Step::Moved;
    loop {
        if step == Step::Moved {
            around.judge(engine);
            while let Some(ended) = engine.record() {
                around.record(ended);
            }
            around.moved(engine);
        }
        let rooms = admit(engine, requests.held() + answers.held(), around);
        let (reads_client, reads_broker) = (engine.wants_client(), engine.wants_broker());
        let (closed, due, amid) = (engine.closed(), engine.in_flight(), engine.is_amid_a_request());
        let (request, answer) = (engine.passing_request(), engine.passing_answer());
        let Ends { from_client, from_broker, to_client, to_broker } = engine.ends();
        let (says, asks) = (to_client.has_remaining(), to_broker.has_remaining());
        if !says && !asks {
            let end = match closed {
                Some(closing) => Some(End::Refused(closing)),
                // A client that only sends (no answers are due to it) may close right after.
                None if asking == Asking::Over && due == 0 => Some(End::Client),
                None => None,
            };
            if let Some(end) = end {
                // Whoever is gone already needs no word of it.
                let _ = (broker_write.shutdown().await, client_write.shutdown().await);
                return end;
            }
        }
        let reads_client = reads_client && asking == Asking::On;
        let may_ask = Fills::when(reads_client && rooms.request == Room::Is);
        let may_answer = Fills::when(reads_broker && rooms.answer == Room::Is);
        step = tokio::select! {
            moved = requests.move_on(&mut client_read, from_client, broker_write.as_ref(), request, may_ask) => {
                match moved {
                    // What comes behind a part of a request could not be understood.
                    Ok(Moved::End) if amid => return End::Client,
                    Ok(Moved::End) => asking = Asking::Over,
                    Ok(Moved::In) => {}
                    Ok(Moved::Past(octets)) => engine.passed_request(octets),
                    Err(Failed::Source) => return End::Client,
                    Err(Failed::Sink) => return End::Broker,
                }
                Step::Moved
            }
            moved = answers.move_on(&mut broker_read, from_broker, client_write.as_ref(), answer, may_answer) => {
                match moved {
                    Ok(Moved::In) => {}
                    Ok(Moved::Past(octets)) => engine.passed_answer(octets, Instant::now()),
                    Ok(Moved::End) | Err(Failed::Source) => {
                        // What it has said is still the client's.
                        while to_client.has_remaining() {
                            if client_write.write_buf(to_client).await.is_err() {
                                return End::Client;
                            }
                        }
                        let _ = client_write.shutdown().await;
                        return End::Broker;
                    }
                    Err(Failed::Sink) => return End::Client,
                }
                Step::Moved
            }
            () = room(around, Next::Request), if reads_client && rooms.request == Room::Awaited => Step::Room,
            () = room(around, Next::Answer), if reads_broker && rooms.answer == Room::Awaited => Step::Room,
            written = send(client_write.as_ref(), to_client), if says => {
                if written.is_err() {
                    return End::Client;
                }
                Step::Moved
            }
            written = send(broker_write.as_ref(), to_broker), if asks => {
                if written.is_err() {
                    return End::Broker;
                }
                Step::Moved
            }
        };
    }
}

/// Whether the client may still ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    On,
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    /// There may be room again.
    Room,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Is,
    Awaited,
}

/// For what is read next.
struct Rooms {
    request: Room,
    answer: Room,
}

/// A frame that has begun is let in as a whole where there is room, so that what has begun can end. All
/// in one step, before anybody else of the same source looks for room. `passing` octets are held beside the
/// engine's.
fn admit(engine: &mut Engine, passing: usize, around: &impl Surroundings) -> Rooms {
    around.holds(passing + engine.octets());
    let mut rooms = Rooms { request: Room::Is, answer: Room::Is };
    if engine.request_needs_room() {
        match around.has_room(Next::Request) {
            true => engine.admit_request(),
            false => rooms.request = Room::Awaited,
        }
    }
    around.holds(passing + engine.octets());
    if engine.answer_needs_room() {
        match around.has_room(Next::Answer) {
            true => engine.admit_answer(),
            false => rooms.answer = Room::Awaited,
        }
    }
    around.holds(passing + engine.octets());
    rooms
}

async fn room(around: &impl Surroundings, next: Next) {
    poll_fn(|cx| around.poll_room(next, cx)).await;
}

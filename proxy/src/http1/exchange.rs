//! One request and its response.

mod again;
mod answering;
mod asking;
mod beginning;
mod judging;
mod own;

use std::{
    cell::Cell,
    future::{pending, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use l7_parsers::http1::{Framing, Head};

pub(super) use self::own::not_taken;
use self::{
    again::Again,
    answering::{Answered, Answering, Failed},
    asking::{Asking, Broken},
    beginning::Beginning,
    judging::Came,
    own::Own,
};
use super::{
    After, Ended, Session,
    call::{CHANGED, Call},
    client::{Client, consume, poll_write_all},
    clock::Limit,
    refused::Refused,
    relay::{Encoding, Reading, Relay},
    request::Outbound,
};
use crate::{
    grpc::Side,
    policy::Judgement,
    record::Recording,
    response::{self, GrpcStatus},
    tunnel::Tunnel,
    upstream::Kept,
    verdict::Permit,
};

const NOT_READ: &str = "client does not read";

/// What the two directions of an exchange tell each other.
struct Progress {
    /// Writes in either direction.
    moved: Cell<usize>,
    /// The body may be asked of the client.
    gate: Cell<bool>,
    /// All of the request is on its way to the server.
    sent: Cell<bool>,
}

/// Answers the request whose head is the first `octets` of what the client holds. Its record is
/// written when its response begins or when this ends, however it ends.
pub(super) async fn serve(
    client: &mut Client,
    kept: &Kept,
    session: &Session,
    octets: usize,
    head: Head,
) -> After {
    let mut recording = Recording::start(&session.worker, &session.flow);
    let came = Came { octets: &client.held[..octets], head };
    let (permit, call) = match came.judge(session, &mut recording) {
        Ok(judged) => judged,
        Err(own) => {
            consume(&mut client.held, octets);
            return own.send(client, session, recording).await;
        }
    };
    if let Some(call) = &call {
        recording.counts(Rc::clone(&call.counted));
    }
    match forward(client, kept, session, (octets, head), permit, call.as_ref(), &mut recording).await {
        Ok(after) => after,
        Err(own) => own.send(client, session, recording).await,
    }
}

/// Sends it, and passes the response.
async fn forward(
    client: &mut Client,
    kept: &Kept,
    session: &Session,
    (octets, head): (usize, Head),
    permit: Permit<Outbound>,
    call: Option<&Call>,
    recording: &mut Recording,
) -> Result<After, Own> {
    let worker = &session.worker;
    let (outbound, permit) = permit.open();
    let expects_continue = outbound.manner.expects_continue;
    let progress =
        Progress { moved: Cell::new(0), gate: Cell::new(!expects_continue), sent: Cell::new(false) };

    let Client { stream, held, scanner, clock, ended } = client;
    let encoding = match outbound.manner.framing {
        Framing::Length(_) => Encoding::Plain,
        Framing::Chunked => Encoding::Chunked { trailers: Vec::new() },
    };
    let Outbound { head: output, manner, asked } = outbound;
    let written = output.len();
    let up_call = call.map(|call| (call, Side::Request));
    let mut up = Relay::new(Reading::Request(scanner), encoding, output, up_call, &progress.moved);
    let digested = if expects_continue { Ok(0) } else { up.digest(&held[octets..]) };
    let came = Came { octets: &held[..octets], head };
    let mut beginning = Beginning { came, head: written, manner, asked, permit, whole: None };
    let sent = match digested {
        Ok(_) => beginning.send(&mut up, kept, session, recording).await,
        Err(refusal) => Err(Own::refused(Refused::Malformed(refusal), &beginning.manner, recording)),
    };
    let Beginning { manner, asked, permit, whole, .. } = beginning;
    consume(held, octets + digested.unwrap_or(0));
    let mut upstream = sent?;
    let mut again = whole.map(|octets| Again { octets, permit });
    progress.sent.set(up.is_done());

    let outcome = loop {
        let (from_client, to_client) = stream.split();
        let (from_server, to_server) = upstream.stream.split();
        let asking = Asking { from: from_client, to: to_server, held, ended, clock, progress: &progress };
        let answering = Answering {
            from: from_server,
            to: to_client,
            clock: &mut upstream.clock,
            manner: &manner,
            asked: asked.as_ref(),
            call,
            progress: &progress,
            session,
        };
        let outcome = both_ways(asking, &mut up, answering, recording).await;
        match (outcome, again.take()) {
            (Outcome::Answered(Err(Failed::Unanswered(error))), Some(again)) => {
                match again.send(error, session).await {
                    Ok(fresh) => upstream = fresh,
                    Err(error) => break Outcome::Answered(Err(Failed::Upstream(error))),
                }
            }
            (outcome, _) => break outcome,
        }
    };
    match outcome {
        Outcome::Answered(Ok(Answered::Whole { closes, keeps_upstream, status })) => {
            if keeps_upstream && progress.sent.get() {
                upstream.is_personal |= manner.logs_in || matches!(status, 401 | 407);
                upstream.was_repeatable = manner.is_repeatable;
                kept.put(upstream);
            }
            // The rest of a request that was answered before its end is nobody's.
            Ok(if closes || !progress.sent.get() { After::End(Ended::Linger) } else { After::Next })
        }
        Outcome::Answered(Ok(Answered::Switched { early })) => Ok(After::End(match asked {
            Some(asked) => Ended::Switched(Box::new(Tunnel { server: upstream.stream, early, asked })),
            None => Ended::Cut,
        })),
        Outcome::Answered(Err(Failed::NotRead)) => {
            session.ended_by(NOT_READ);
            Ok(After::End(Ended::Reset))
        }
        Outcome::Denied(judgement) => {
            // The server's connection ends, too.
            drop(upstream);
            recording.judged(&judgement);
            recording.because(CHANGED);
            match call {
                Some(call) if !call.is_unanswered() => Ok(end_denied(client, call, session).await),
                _ => {
                    let answer = response::denied_now(manner.tongue.clone());
                    Err(Own { answer, closes: true, is_head: manner.is_head })
                }
            }
        }
        Outcome::Answered(Err(Failed::Silent)) if call.is_some() => {
            recording.upstream_failed("the server sends nothing any more");
            Ok(After::End(Ended::Cut))
        }
        Outcome::Answered(Err(Failed::Silent)) => {
            // The request's own record was written with the response head.
            let mut recording = Recording::start(worker, &session.flow);
            recording.protocol("HTTP/1.1");
            recording.upstream_failed("the server sends nothing any more");
            Ok(After::End(Ended::Cut))
        }
        Outcome::Broken(Broken::Refused(why)) if recording.has_begun() => {
            session.ended_by(&why.to_string());
            Ok(After::End(Ended::Cut))
        }
        Outcome::Broken(Broken::Lost) => {
            if let Some(call) = call {
                call.counted.ends_with(GrpcStatus::Cancelled);
                recording.because("cancelled by the client");
            }
            Ok(After::End(Ended::Cut))
        }
        Outcome::Answered(Err(Failed::Cut)) => Ok(After::End(Ended::Cut)),
        Outcome::Answered(Err(Failed::Upstream(error) | Failed::Unanswered(error))) => {
            Err(Own::failed(&error, &manner, session, recording))
        }
        Outcome::Broken(Broken::Refused(why)) => Err(Own::refused(why, &manner, recording)),
    }
}

/// Until there is an answer, or there can be none.
async fn both_ways(
    asking: Asking<'_>,
    up: &mut Relay<'_>,
    answering: Answering<'_>,
    recording: &mut Recording,
) -> Outcome {
    let (call, session, progress) = (answering.call, answering.session, answering.progress);
    let mut asking = pin!(asking.run(up, &session.worker));
    let mut answering = pin!(answering.run(recording));
    let mut denied = pin!(async {
        match call {
            Some(call) => call.denied(&session.flow, &session.worker).await,
            None => pending().await,
        }
    });
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(answered) => {
            if !progress.sent.get() {
                // The request's last octets may have left with others' writes, and nobody has looked since.
                let _ = asking.as_mut().poll(cx);
            }
            Poll::Ready(Outcome::Answered(answered))
        }
        Poll::Pending => match asking.as_mut().poll(cx) {
            Poll::Ready(broken) => Poll::Ready(Outcome::Broken(broken)),
            Poll::Pending => denied.as_mut().poll(cx).map(Outcome::Denied),
        },
    })
    .await
}

/// Ends the answer that is on its way to the client, or the connection where that has no place.
async fn end_denied(client: &mut Client, call: &Call, session: &Session) -> After {
    let Some(mut chunks) = call.last_chunks() else { return After::End(Ended::Reset) };
    let (stream, mut limit) = (&mut client.stream, Limit::of(session.worker.limits.linger_time));
    match client.clock.within(&mut limit, |cx| poll_write_all(stream, &mut chunks, cx)).await {
        Ok(Ok(())) => After::End(Ended::Linger),
        _ => After::End(Ended::Reset),
    }
}

enum Outcome {
    Denied(Judgement),
    Answered(Result<Answered, Failed>),
    Broken(Broken),
}

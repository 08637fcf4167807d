//! One request and its response.

mod answering;
mod asking;

use std::{
    cell::Cell,
    future::{pending, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use http::StatusCode;
use l7_parsers::http1::{Framing, Head, Version};

use self::{
    answering::{Answered, Answering, Failed},
    asking::{Asking, Broken},
};
use super::{
    After, Ended, Session,
    call::{CHANGED, Call},
    client::{Client, poll_write_all},
    clock::Limit,
    refused::Refused,
    relay::{Encoding, Reading, Relay},
    request::{Outbound, Request},
};
use crate::{
    grpc::Side,
    policy::Judgement,
    record::Recording,
    response::{self, Answer, GRPC_STATUS, GrpcStatus, Tongue},
    tunnel::Tunnel,
    upstream::{Http1Upstream, Kept, UpstreamError},
    verdict::{Judged, Permit, Verdict, judge},
    worker::Wanted,
};

const NOT_READ: &str = "client does not read";

/// An answer instead of a server's.
struct Own {
    answer: Answer,
    closes: bool,
    is_head: bool,
}

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
    let judged = judged(&client.held[..octets], head, session, &mut recording);
    client.consume(octets);
    let (permit, call) = match judged {
        Ok(judged) => judged,
        Err(own) => return answer(client, own, session, recording).await,
    };
    if let Some(call) = &call {
        recording.counts(Rc::clone(&call.counted));
    }
    match forward(client, kept, session, permit, call.as_ref(), &mut recording).await {
        Ok(after) => after,
        Err(own) => answer(client, own, session, recording).await,
    }
}

fn judged(
    octets: &[u8],
    head: Head,
    session: &Session,
    recording: &mut Recording,
) -> Result<(Permit<Outbound>, Option<Call>), Own> {
    let protocol = protocol(head.version);
    let request = match Request::read(octets, head) {
        Ok(request) => request,
        Err(error) => {
            recording.protocol(protocol);
            recording.refused(error);
            let answer = response::text(Tongue::Http, StatusCode::BAD_REQUEST, &error.to_string());
            return Err(Own { answer, closes: true, is_head: false });
        }
    };
    recording.request(protocol, &request.facts());
    if request.manner().tongue != Tongue::Http && !session.share.has_room(Wanted::More) {
        recording.refused("the open calls of this source take all that may be kept of it");
        let manner = request.manner();
        let answer =
            response::text(manner.tongue.clone(), StatusCode::SERVICE_UNAVAILABLE, "too many open calls");
        return Err(Own { answer, closes: manner.closes_after_own(session), is_head: manner.is_head });
    }
    let call = request.call(octets.len(), &session.share);
    match session.worker.with_policy(|policy| judge(request, policy, &session.flow)) {
        Verdict::Allowed(permit, judgement) => {
            recording.judged(&judgement);
            Ok((permit.encode(), call))
        }
        Verdict::Denied(request, judgement) => {
            recording.judged(&judgement);
            let manner = request.manner();
            let (closes, is_head) = (manner.closes_after_own(session), manner.is_head);
            Err(Own { answer: response::denied(manner.tongue.clone()), closes, is_head })
        }
    }
}

pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

async fn answer(client: &mut Client, own: Own, session: &Session, mut recording: Recording) -> After {
    recording.status(own.answer.status);
    if let Some((_, value)) = own.answer.fields.iter().find(|(name, _)| *name == GRPC_STATUS) {
        recording.grpc_status(value);
    }
    drop(recording);
    if let Err(error) = client.answer(&own.answer, own.closes, own.is_head, session).await {
        return After::End(not_taken(&error, session));
    }
    if own.closes {
        return After::End(Ended::Linger);
    }
    // What is left of its body goes before the next request can be read.
    match client.discard_body(session).await {
        Some(()) => After::Next,
        None => After::End(Ended::Linger),
    }
}

/// How a connection ends whose client does not take an answer.
pub(super) fn not_taken(error: &io::Error, session: &Session) -> Ended {
    if error.kind() != io::ErrorKind::TimedOut {
        return Ended::Cut;
    }
    session.ended_by(NOT_READ);
    Ended::Reset
}

/// Sends on the kept upstream, or on a new one where there is none that works, and passes the response.
async fn forward(
    client: &mut Client,
    kept: &Kept,
    session: &Session,
    permit: Permit<Outbound>,
    call: Option<&Call>,
    recording: &mut Recording,
) -> Result<After, Own> {
    let worker = &session.worker;
    let (Outbound { head, manner, asked }, permit) = permit.open();
    let progress =
        Progress { moved: Cell::new(0), gate: Cell::new(!manner.expects_continue), sent: Cell::new(false) };
    let failed = |recording: &mut Recording, error: UpstreamError| {
        recording.upstream_failed(&error);
        let closes = manner.closes_after_own(session) || matches!(error, UpstreamError::UnaskedSwitch);
        let answer = response::text(manner.tongue.clone(), error.status(), "Upstream failure");
        Err(Own { answer, closes, is_head: manner.is_head })
    };
    let refused = |recording: &mut Recording, refused: Refused| {
        recording.refused(refused);
        let answer = response::text(manner.tongue.clone(), refused.status(), &refused.to_string());
        Err(Own { answer, closes: true, is_head: manner.is_head })
    };

    let Client { stream, held, scanner, clock, ended } = client;
    let encoding = match manner.framing {
        Framing::Length(_) => Encoding::Plain,
        Framing::Chunked => Encoding::Chunked { trailers: Vec::new() },
    };
    let mut up = Relay::new(
        Reading::Request(scanner),
        encoding,
        head,
        call.map(|call| (call, Side::Request)),
        &progress.moved,
    );
    if !manner.expects_continue
        && let Err(refusal) = up.digest_held(held)
    {
        return refused(recording, Refused::Malformed(refusal));
    }
    let mut upstream = loop {
        let mut usable = kept.take();
        if let Some(upstream) = &mut usable
            && upstream.is_closed().await
        {
            usable = None;
        }
        let was_kept = usable.is_some();
        let mut upstream = match usable {
            Some(upstream) => upstream,
            None => match Http1Upstream::connect(&permit, &session.flow, &worker.upstreams).await {
                Ok(upstream) => upstream,
                Err(error) => return failed(recording, error),
            },
        };
        match upstream.begin(&mut up.output, worker.limits.connect_time).await {
            Ok(()) => break upstream,
            // Closed before the first octet: another one may carry the request.
            Err(_) if was_kept => {}
            Err(error) => return failed(recording, error),
        }
    };
    progress.sent.set(up.is_done());

    let outcome = {
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
        let mut asking = pin!(asking.run(&mut up, worker));
        let mut answering = pin!(answering.run(recording));
        let mut denied = pin!(async {
            match call {
                Some(call) => call.denied(&session.flow, worker).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Outcome::Answered(answered)),
            Poll::Pending => match asking.as_mut().poll(cx) {
                Poll::Ready(broken) => Poll::Ready(Outcome::Broken(broken)),
                Poll::Pending => denied.as_mut().poll(cx).map(Outcome::Denied),
            },
        })
        .await
    };
    match outcome {
        Outcome::Answered(Ok(Answered::Whole { closes, keeps_upstream })) => {
            if keeps_upstream && progress.sent.get() {
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
        Outcome::Answered(Err(Failed::Upstream(error))) => failed(recording, error),
        Outcome::Broken(Broken::Refused(why)) => refused(recording, why),
    }
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

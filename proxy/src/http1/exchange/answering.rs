//! The server's half of an exchange: its response.

use std::time::Duration;

use l7_parsers::http1::{Limits, ResponseHead, ResponseScan};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Progress;
use crate::{
    grpc::Side,
    http1::{
        Session,
        call::Call,
        client::poll_write_all,
        clock::{Clock, Limit},
        relay::{Reading, Relay, RelayError, Times},
        request::{Asked, Manner},
        response::{write_head, write_switch},
    },
    record::Recording,
    upstream::UpstreamError,
};

/// How long a body waits for `100 Continue`. Servers that do not know the expectation just wait for
/// the body, and so would both for ever (RFC 9110 §10.1.1).
const CONTINUE_TIME: Duration = Duration::from_secs(1);

pub(super) struct Answering<'a> {
    pub(super) from: ReadHalf<'a>,
    pub(super) to: WriteHalf<'a>,
    pub(super) clock: &'a mut Clock,
    pub(super) manner: &'a Manner,
    pub(super) asked: Option<&'a Asked>,
    pub(super) call: Option<&'a Call>,
    pub(super) progress: &'a Progress,
    pub(super) session: &'a Session,
}

pub(super) enum Answered {
    Whole {
        /// The client's connection ends with it.
        closes: bool,
        keeps_upstream: bool,
        status: u16,
    },
    /// The stream is not HTTP any more. `early`: octets of the server behind its head.
    Switched { early: Vec<u8> },
}

pub(super) enum Failed {
    /// Before an octet of the response has gone to the client.
    Upstream(UpstreamError),
    /// The server's connection ended without an octet of one.
    Unanswered(UpstreamError),
    /// The client takes no more of the response.
    NotRead,
    /// The server sends no more of it.
    Silent,
    /// In the middle of the response one of the connections broke.
    Cut,
}

impl Answering<'_> {
    /// Passes the response to its end. The record is written once its head is there.
    pub(super) async fn run(mut self, recording: &mut Recording) -> Result<Answered, Failed> {
        let limits = &self.session.worker.limits;
        let bounds = Limits { fields: limits.http1.fields.max(100), ..limits.http1 };
        let mut held = Vec::new();
        let (octets, head) = self.head(&mut held, &bounds).await?;
        let mut out = Vec::with_capacity(held.len() + 64);

        let connected = self.asked.is_some_and(Asked::is_connect) && (200..300).contains(&head.status);
        if head.status == 101 || connected {
            let asked = self.asked.filter(|_| self.progress.sent.get());
            asked
                .and_then(|asked| write_switch(&held[..octets], head, asked, &mut out))
                .ok_or(Failed::Upstream(UpstreamError::UnaskedSwitch))?;
            recording.answered(head.status);
            recording.begins();
            self.write(&mut out).await?;
            held.drain(..octets);
            return Ok(Answered::Switched { early: held });
        }

        recording.answered(head.status);
        recording.begins();
        if let Some(call) = self.call {
            call.is_answered(ResponseHead::parts(&held[..octets]).1);
        }
        // Whether the client sends a body that it was not asked for, there is no telling.
        let closes = self.manner.closes || self.session.gives_last_answers() || !self.progress.gate.get();
        let following = write_head(&held[..octets], head, self.manner, closes, &mut out);
        held.drain(..octets);
        self.session.ends_answer.set(following.until_close);
        let reading = Reading::Response(following.body, bounds);
        let mut relay = Relay::new(
            reading,
            following.encoding,
            out,
            self.call.map(|call| (call, Side::Answer)),
            &self.progress.moved,
        );
        let times = Times { read: limits.stream_idle_time, write: limits.stall_time };
        let worker = &self.session.worker;
        relay.run(&mut self.from, &mut self.to, &mut held, self.clock, &times, worker).await.map_err(
            |error| match error {
                RelayError::WriteTime => Failed::NotRead,
                RelayError::ReadTime => Failed::Silent,
                _ => Failed::Cut,
            },
        )?;
        self.session.ends_answer.set(false);
        // What comes behind the response was not asked for.
        let keeps_upstream = following.keeps_upstream && held.is_empty();
        Ok(Answered::Whole { closes: following.closes, keeps_upstream, status: head.status })
    }

    /// Reads the head of the final response, to the end of which there are that many octets.
    async fn head(&mut self, held: &mut Vec<u8>, bounds: &Limits) -> Result<(usize, ResponseHead), Failed> {
        let worker = &self.session.worker;
        let mut response_time = Limit::of(worker.limits.response_time);
        let mut continue_time = Limit::of(CONTINUE_TIME);
        let mut scan = ResponseScan::new();
        let mut is_heard = false;
        loop {
            let found = scan.advance(held, bounds).map_err(|refusal| Failed::Upstream(refusal.into()))?;
            match found {
                Some((octets, head)) if (100..200).contains(&head.status) && head.status != 101 => {
                    held.drain(..octets);
                    scan = ResponseScan::new();
                    if head.status == 100 {
                        self.go_on().await?;
                    }
                    continue;
                }
                Some(found) => return Ok(found),
                None => {}
            }
            let waits = !self.progress.gate.get();
            let limit = if waits { &mut continue_time } else { &mut response_time };
            let from = &mut self.from;
            match self.clock.within(limit, |cx| worker.poll_read_more(from, held, cx)).await {
                Ok(Ok(0)) if is_heard => return Err(Failed::Upstream(UpstreamError::Closed)),
                Ok(Ok(0)) => return Err(Failed::Unanswered(UpstreamError::Closed)),
                Ok(Ok(_)) => is_heard = true,
                Ok(Err(error)) if is_heard => return Err(Failed::Upstream(UpstreamError::Broken(error))),
                Ok(Err(error)) => return Err(Failed::Unanswered(UpstreamError::Broken(error))),
                Err(_) if waits => self.go_on().await?,
                Err(_) => {
                    return Err(Failed::Upstream(UpstreamError::ResponseTime(worker.limits.response_time)));
                }
            }
        }
    }

    /// Asks the client for the body that it holds back.
    async fn go_on(&mut self) -> Result<(), Failed> {
        if !self.progress.gate.get() {
            self.write(&mut b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await?;
            self.progress.gate.set(true);
        }
        Ok(())
    }

    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        let mut limit = Limit::of(self.session.worker.limits.stall_time);
        let to = &mut self.to;
        match self.clock.within(&mut limit, |cx| poll_write_all(to, out, cx)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Failed::Cut),
            Err(_) => Err(Failed::NotRead),
        }
    }
}

//! What a connection's time is up for. One timer, armed for the first of its limits, and again only where
//! it fires too early: frames only move numbers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use l7_parsers::http2::frame::{ErrorCode, Kind, put_ping};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    fault::Ended,
    session::{Leaving, Session},
    stream::Stream,
    ticks::now,
    upstream::end_spare,
};
use crate::{options::Limits, response::text, upstream::UpstreamError};

/// Times are of [`now`].
pub(super) struct Clock {
    /// Between two looks while there is something to look after.
    step: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    patience: Option<Pin<Box<Sleep>>>,
    pub(super) began: Duration,
    /// When the client sent something last, whatever it was.
    heard: Duration,
    /// When its socket took something last, or nothing waited for that.
    wrote: Duration,
    /// When its windows did. Answers to its PINGs need none, and are no sign that it reads.
    taken: Duration,
    /// When the last stream came or ended.
    pub(super) last: Duration,
    /// When it was asked whether it is there still.
    asked: Option<Duration>,
    /// When it was told that this ends for want of requests.
    idle: Option<Duration>,
}

/// What has gone on for too long with one stream.
enum Late {
    Answer,
    RequestBody,
    AnswerBody,
    /// The client goes on with a request that has been answered.
    Rest,
}

impl Clock {
    pub(super) fn new(limits: &Limits) -> Self {
        let all = [
            limits.head_time,
            limits.first_octet_time,
            limits.idle_time,
            limits.stall_time,
            limits.response_time,
            limits.stream_idle_time,
            limits.linger_time * 4,
        ];
        let step = all.into_iter().min().unwrap_or(limits.head_time) / 4;
        let now = now();
        Self {
            step,
            timer: None,
            patience: None,
            began: now,
            heard: now,
            wrote: now,
            taken: now,
            last: now,
            asked: None,
            idle: None,
        }
    }

    pub(super) fn heard(&mut self) {
        self.heard = now();
    }

    pub(super) fn wrote(&mut self) {
        self.wrote = now();
    }

    pub(super) fn taken(&mut self) {
        self.taken = now();
    }

    /// Ready when answers to PINGs have waited for long enough.
    pub(super) fn poll_patience(&mut self, most: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.patience.get_or_insert_with(|| Box::pin(sleep(most)));
        ready!(timer.as_mut().poll(cx));
        self.patience = None;
        Poll::Ready(())
    }
}

impl Session {
    pub(super) fn poll_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        let step = self.step();
        let timer = self.clock.timer.get_or_insert_with(|| Box::pin(sleep(step)));
        // It was armed while there was nothing to look after.
        if step == self.clock.step && timer.deadline() > Instant::now() + step {
            timer.as_mut().reset(Instant::now() + step);
        }
        while let Some(timer) = &mut self.clock.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.look()?;
            let next = self.step();
            if let Some(timer) = &mut self.clock.timer {
                timer.as_mut().reset(Instant::now() + next);
            }
            // What was said meanwhile is to be written.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Until the next look.
    fn step(&self) -> Duration {
        let limits = &self.worker.limits;
        let rests = self.streams.is_empty()
            && self.client.part_since.is_none()
            && self.client.block.is_none()
            && self.client.out.is_empty()
            && self.clock.asked.is_none()
            && self.clock.idle.is_none();
        if rests { (limits.first_octet_time / 4).max(self.clock.step) } else { self.clock.step }
    }

    fn look(&mut self) -> Result<(), Ended> {
        let (now, limits) = (now(), self.worker.limits);
        let past = |since: Duration, most: Duration| now.saturating_sub(since) >= most;
        let of_data = self.client.part().is_some_and(|part| part.kind == Kind::Data);
        let part = self.client.part_since.filter(|_| !of_data);
        let block = self.client.block.as_ref().map(|block| block.since);
        if [part, block].into_iter().flatten().any(|since| past(since, limits.head_time)) {
            return Err(Ended::HeadTime);
        }
        if self.client.out.is_empty() {
            self.clock.wrote = now;
        }
        if !self.streams.values().any(|stream| stream.answer.waits() > 0) {
            self.clock.taken = now;
        }
        if past(self.clock.wrote.min(self.clock.taken), limits.stall_time) {
            return Err(Ended::NotRead);
        }
        if !past(self.clock.heard, limits.first_octet_time) {
            self.clock.asked = None;
        } else if self.clock.asked.is_some_and(|asked| past(asked, limits.head_time)) {
            return Err(Ended::NoPong);
        } else if self.clock.asked.is_none() {
            self.clock.asked = Some(now);
            put_ping(self.client.out.octets(), *b"are you?");
        }
        self.look_at_idle(now)?;
        end_spare(&mut self.upstreams, limits.idle_time);
        let late: Vec<_> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| Some((*id, self.late(*id, stream, now)?)))
            .collect();
        late.into_iter().for_each(|(id, late)| self.is_late(id, late));
        Ok(())
    }

    fn look_at_idle(&mut self, now: Duration) -> Result<(), Ended> {
        let limits = &self.worker.limits;
        match self.clock.idle {
            // A request that was on its way is answered to its end.
            _ if !self.streams.is_empty() => Ok(()),
            Some(told) if now.saturating_sub(told) >= limits.linger_time => Err(Ended::Idle),
            Some(_) => Ok(()),
            None if now.saturating_sub(self.clock.last) >= limits.idle_time => {
                self.clock.idle = Some(now);
                self.leave();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn late(&self, id: u32, stream: &Stream, now: Duration) -> Option<Late> {
        let limits = &self.worker.limits;
        let past = |since: Duration, most: Duration| now.saturating_sub(since) >= most;
        // A part of a frame is a sign of life, too.
        let comes = self.client.part().is_some_and(|part| part.kind == Kind::Data && part.stream == id);
        let upload = if comes { stream.upload.last.max(self.clock.heard) } else { stream.upload.last };
        let body_waits = !stream.upload.ended && stream.upload.waits() == 0;
        if stream.answer.done {
            return (body_waits && past(upload, limits.stall_time)).then_some(Late::Rest);
        }
        if stream.answered {
            let silent = !stream.answer.ended && stream.answer.waits() == 0;
            return (silent && past(stream.answer.last, limits.stream_idle_time)).then_some(Late::AnswerBody);
        }
        // A server may keep a call's client waiting for as long as it takes, and for its first word, too.
        let is_call = matches!(stream.log, super::stream::Log::Call(_));
        let most = if is_call { limits.stream_idle_time } else { limits.stall_time };
        if body_waits && past(upload, most) {
            return Some(Late::RequestBody);
        }
        past(stream.since, limits.response_time).then_some(Late::Answer)
    }

    fn is_late(&mut self, id: u32, late: Late) {
        match late {
            Late::Answer => {
                let time = self.worker.limits.response_time;
                self.fail(id, &UpstreamError::ResponseTime(time).into());
            }
            Late::AnswerBody => self.fail(id, &UpstreamError::Silent.into()),
            Late::RequestBody => {
                let stalled = "request body stalled";
                let Some(stream) = self.streams.get_mut(&id) else { return };
                stream.log.note(|recording| recording.refused(stalled));
                let answer = text(stream.tongue.clone(), http::StatusCode::REQUEST_TIMEOUT, stalled);
                self.say(id, &answer);
            }
            Late::Rest => self.reset_client(id, ErrorCode::Cancel.into()),
        }
    }

    /// Whether the end that the client was told of is for want of requests.
    pub(super) fn is_idle(&self) -> bool {
        self.clock.idle.is_some() && self.leaving != Leaving::No
    }
}

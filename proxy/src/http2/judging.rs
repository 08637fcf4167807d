//! A request from its header block to the server: read, judged, sent; or kept until there is a server that
//! takes it, and judged once more then.

use std::{rc::Rc, task::Context};

use http::StatusCode;
use l7_parsers::http2::{frame::ErrorCode, hpack::Decoded};

use super::{
    asking::wrong_body,
    call::Call,
    fault::Fault,
    fields::{Fields, is_hop},
    request::{Request, Unreadable},
    session::Session,
    stream::{Asking, Log, Stream},
    ticks::now,
    upstream::{are_full, takes_any, with_room},
};
use crate::{
    record::Recording,
    response::{self, Tongue, text},
    verdict::{Permit, Verdict, judge},
    worker::{Held, Wanted},
};

/// Octets of heads that wait for a server: of one connection, and where its source has its share already.
const PARKED: usize = 4 << 20;
const PARKED_AT_LAST: usize = 64 << 10;

/// For how many of these a head counts that is too large.
const OVERLONG: usize = 10;

impl Session {
    /// A request: refused, denied, sent, or kept until it can be sent.
    pub(super) fn ask(
        &mut self,
        id: u32,
        decoded: Decoded,
        fields: Fields,
        ended: bool,
    ) -> Result<(), Fault> {
        let mut recording = Recording::start(&self.worker, &self.flow);
        recording.protocol("HTTP/2");
        let tongue = Tongue::of_fields(&fields);
        let octets = fields.list_octets();
        let log = match tongue {
            Tongue::Http => Log::Request(Some(Box::new(recording))),
            Tongue::Grpc(_) => Log::Call(Box::new(Call::new(&self.worker, recording, &fields))),
        };
        let mut stream = Box::new(Stream::new(log, tongue.clone(), [0, self.client.stream_room]));
        stream.upload.ended = ended;
        self.streams.insert(id, stream);
        if decoded == Decoded::Overlong {
            // A few octets on the wire may stand for many: who goes on with that is put out soon.
            self.stream_errors += OVERLONG;
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            self.refuse_with(id, status, "request head too large");
            return Ok(());
        }
        let request = match Request::read(fields, self.worker.limits.http1.fields) {
            Ok(request) => request,
            Err(Unreadable::Malformed(fault)) => return Err(Fault::stream(id, ErrorCode::Protocol, fault)),
            Err(Unreadable::Refused(error)) => {
                self.refuse_with(id, StatusCode::BAD_REQUEST, &error.to_string());
                return Ok(());
            }
        };
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.log.note(|recording| recording.request("HTTP/2", &request.facts()));
        stream.is_head = request.is_head();
        stream.upload.expect(request.length);
        if ended {
            stream.upload.end(None).map_err(|fault| wrong_body(id, fault))?;
        }
        let has_room = stream.log.call().is_none() || self.share.has_room(Wanted::More);
        if has_room && self.parked.is_empty() && with_room(&mut self.upstreams).is_some() {
            self.judge_and_send(id, request, octets);
            Ok(())
        } else {
            self.park(id, request, octets)
        }
    }

    fn refuse_with(&mut self, id: u32, status: StatusCode, why: &str) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.log.note(|recording| recording.refused(why));
        let answer = text(stream.tongue.clone(), status, why);
        self.say(id, &answer);
    }

    fn judge_and_send(&mut self, id: u32, request: Request, octets: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let kept = stream.log.call().map(|_| request.clone());
        match judge(request, &self.worker, &self.flow) {
            Verdict::Allowed(permit, judgement) => {
                stream.log.note(|recording| recording.judged(&judgement));
                if let (Some(call), Some(head)) = (stream.log.call(), kept) {
                    // What its head takes is kept for as long as it is open.
                    call.keep(head, Held::of(&self.share, octets));
                }
                self.send(id, permit);
            }
            Verdict::Denied(_, judgement) => {
                stream.log.note(|recording| recording.judged(&judgement));
                let answer = response::denied(stream.tongue.clone());
                self.say(id, &answer);
            }
        }
    }

    /// Keeps an allowed request until there is somebody to send it to.
    fn park(&mut self, id: u32, request: Request, octets: usize) -> Result<(), Fault> {
        let most = if self.share.has_room(Wanted::More) { PARKED } else { PARKED_AT_LAST };
        if self.parked_octets > 0 && self.parked_octets + octets > most {
            // It may be sent again without harm.
            return Err(Fault::stream(id, ErrorCode::RefusedStream, "too much waits for the server"));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        match judge(request.clone(), &self.worker, &self.flow) {
            Verdict::Allowed(permit, judgement) => {
                stream.log.note(|recording| recording.judged(&judgement));
                stream.asking = Asking::Parked(Box::new(request));
                stream.kept = octets;
                self.share.hold(octets);
                self.parked_octets += octets;
                self.parked.push_back(id);
                self.connect(permit);
            }
            Verdict::Denied(_, judgement) => {
                stream.log.note(|recording| recording.judged(&judgement));
                let answer = response::denied(stream.tongue.clone());
                self.say(id, &answer);
            }
        }
        Ok(())
    }

    fn wants_connection(&self) -> bool {
        let may_have_further = || are_full(&self.upstreams) && now() >= self.further_from;
        self.connecting.is_none() && (!takes_any(&self.upstreams) || may_have_further())
    }

    /// Connects to the server, unless there is a connection that takes requests, or will be.
    fn connect(&mut self, permit: Permit<Request>) {
        if !self.wants_connection() {
            return;
        }
        let (worker, flow) = (Rc::clone(&self.worker), self.flow);
        self.connecting = Some(Box::pin(async move { worker.upstreams.connect(&permit, &flow).await }));
    }

    /// Sends requests that could not be sent before.
    pub(super) fn ask_parked(&mut self, cx: &Context<'_>) {
        while let Some(id) = self.parked.front().copied() {
            let Some(Asking::Parked(request)) = self.streams.get(&id).map(|stream| &stream.asking) else {
                self.parked.pop_front();
                continue;
            };
            if with_room(&mut self.upstreams).is_none() {
                if !self.wants_connection() {
                    return;
                }
                // The server has left meanwhile, or takes no more streams at once.
                let request = Request::clone(request);
                match judge(request, &self.worker, &self.flow) {
                    Verdict::Allowed(permit, _) => return self.connect(permit),
                    // Which it is told below.
                    Verdict::Denied(..) => {}
                }
            }
            // What is kept of a call is waited for only where others are open, that can end.
            let is_first = self.upstreams.iter().all(|upstream| upstream.open == 0);
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let waits = stream.log.call().is_some() && !is_first;
            if waits && self.share.poll_room(Wanted::More, cx).is_pending() {
                return;
            }
            self.parked.pop_front();
            if let Asking::Parked(request) = std::mem::replace(&mut stream.asking, Asking::Nobody) {
                let octets = std::mem::take(&mut stream.kept);
                self.share.release(octets);
                self.parked_octets -= octets;
                self.judge_and_send(id, *request, octets);
            }
        }
    }

    /// Opens the server's stream. Its number is the client's: numbers only have to grow.
    fn send(&mut self, id: u32, permit: Permit<Request>) {
        let (request, _permit) = permit.open();
        let (stream, upstream) = (self.streams.get_mut(&id), with_room(&mut self.upstreams));
        let (Some(stream), Some(upstream)) = (stream, upstream) else { return };
        (upstream.last_stream, upstream.open) = (id, upstream.open + 1);
        upstream.half.meter.request();
        stream.asking = Asking::Sent(upstream.number);
        stream.since = now();
        stream.upload.room = upstream.half.stream_room;
        // A rule may add any field.
        let fields = request.fields().iter().filter(|field| !is_hop(field));
        let is_whole = stream.upload.ended && stream.upload.waits() == 0;
        upstream.half.put_block(id, request.pseudo().into_iter().chain(fields), is_whole);
        stream.upload.done = is_whole;
        stream.upload.list(id, &mut upstream.half);
    }
}

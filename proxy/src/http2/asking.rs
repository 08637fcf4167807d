//! What the client sends: requests and their bodies. Each request is judged before a server hears of it.

use l7_parsers::http2::frame::{self, Code, ErrorCode, FrameHeader, HEADER, Kind, flag};

use super::{
    fault::{Ended, Fault},
    fields::{Fields, fault_of},
    half::{Block, widened},
    lane::{BodyFault, Lane},
    session::{LEAVING, Leaving, Session},
    stream::{Asking, Stream},
    ticks::now,
};
use crate::{grpc::Side, record::Recording};

/// Octets of a header block on the wire, for each that its head may have: what is more than that ends the
/// connection, as it cannot even be read to say so.
const BLOCK: usize = 4;

/// Stream errors of one connection's life, each answered with RST_STREAM (CVE-2025-8671).
const STREAM_ERRORS: usize = 1000;

/// Requests that a client may give up before their answer: so many at once, this many a second, and
/// one for each that was answered (CVE-2023-44487).
const GIVEN_UP_AT_ONCE: u64 = 100;
const GIVEN_UP_PER_SECOND: u64 = 10;

impl Session {
    /// Takes what the client has sent.
    pub(super) fn client_octets(&mut self, octets: &[u8]) -> Result<(), Ended> {
        let mut at = 0;
        loop {
            let result = match self.client.frame(&octets[at..]) {
                Ok(None) => break,
                Ok(Some((header, payload))) => {
                    at += HEADER + payload.len();
                    self.client.meter.frame(&header, now)?;
                    self.client_frame(&header, payload)
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                self.client_fault(fault)?;
            }
            self.check_patience()?;
        }
        self.client.hold(&octets[at..], at);
        Ok(())
    }

    fn client_frame(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        match header.kind {
            Kind::Data => self.request_data(header, payload),
            Kind::Headers => self.request_headers(header, payload),
            Kind::Continuation => {
                let most = self.worker.limits.http1.head_octets * BLOCK;
                match self.client.continues(header, payload, most)? {
                    Some(Block { stream, ended, octets, .. }) => self.request_block(stream, &octets, ended),
                    None => Ok(()),
                }
            }
            Kind::WindowUpdate => self.client_widens(header.stream, frame::window_update(header, payload)?),
            Kind::RstStream => {
                let code = frame::reset(header, payload)?;
                if header.stream > self.last_stream {
                    return Err(idle("RST_STREAM"));
                }
                self.client_resets(header.stream, Code(code));
                Ok(())
            }
            Kind::Settings => {
                let settings = frame::settings(header, payload)?;
                if !header.has(flag::ACK) {
                    let more = self.client.settle(settings);
                    self.shift_rooms(more, |stream| Some(&mut stream.answer))?;
                    if more > 0 {
                        for (id, stream) in &mut self.streams {
                            stream.answer.list(*id, &mut self.client);
                        }
                    }
                }
                Ok(())
            }
            Kind::Ping => {
                let octets = frame::ping(header, payload)?;
                match header.has(flag::ACK) {
                    false => self.client.out.pong(octets),
                    true if octets == LEAVING => self.leave_for_good(),
                    true => {}
                }
                Ok(())
            }
            Kind::GoAway => {
                frame::goaway(header, payload)?;
                self.client_leaves = true;
                Ok(())
            }
            Kind::Priority => Ok(frame::priority(header, payload)?),
            Kind::PushPromise => Err(Fault::connection(ErrorCode::Protocol, "PUSH_PROMISE of a client")),
            Kind::Unknown(_) => Ok(()),
        }
    }

    /// What all streams of a side may send changes by so much.
    pub(super) fn shift_rooms(
        &mut self,
        by: i64,
        lane: impl Fn(&mut Stream) -> Option<&mut Lane>,
    ) -> Result<(), Fault> {
        if by == 0 {
            return Ok(());
        }
        for stream in self.streams.values_mut() {
            let Some(lane) = lane(stream) else { continue };
            lane.room += by;
            if lane.room >= 1 << 31 {
                return Err(Fault::connection(ErrorCode::FlowControl, "window of a stream too large"));
            }
        }
        Ok(())
    }

    fn client_widens(&mut self, id: u32, octets: u32) -> Result<(), Fault> {
        if id == 0 {
            return self.client.widen(octets);
        }
        if id > self.last_stream {
            return Err(idle("WINDOW_UPDATE"));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if !widened(&mut stream.answer.room, octets) {
            return Err(Fault::stream(
                id,
                ErrorCode::FlowControl,
                "flow-control window of the stream too large",
            ));
        }
        stream.answer.list(id, &mut self.client);
        Ok(())
    }

    fn request_data(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        let data = &payload[frame::data(header, payload)?];
        self.client.came(header.length)?;
        let id = header.stream;
        let Self { streams, client, upstreams, share, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return self.behind_the_end(id, "DATA") };
        if stream.upload.ended {
            return Err(Fault::stream(id, ErrorCode::StreamClosed, "DATA behind the end of a request"));
        }
        stream.upload.came(header.length, data.len()).map_err(|fault| wrong_body(id, fault))?;
        if header.has(flag::END_STREAM) {
            stream.upload.end(None).map_err(|fault| wrong_body(id, fault))?;
        }
        if !stream.upload.done {
            stream.log.passes(Side::Request, data);
            let kept = match (stream.upstream(upstreams), &stream.asking) {
                (Some(upstream), _) => stream.upload.pass(id, data, &mut upstream.half, |_| ()),
                (None, Asking::Parked(_)) => {
                    stream.upload.keep(data);
                    data.len()
                }
                (None, _) => 0,
            };
            share.hold(kept);
            client.waiting += kept;
            client.give_back_stream(id, &mut stream.upload, data.len() - kept);
        }
        if header.has(flag::END_STREAM) {
            self.settle(id);
        }
        Ok(())
    }

    /// A frame on a stream that is not there (any more).
    fn behind_the_end(&self, id: u32, what: &str) -> Result<(), Fault> {
        if id > self.last_stream || id.is_multiple_of(2) {
            return Err(idle(what));
        }
        if self.reset.contains(&id) {
            return Ok(());
        }
        Err(Fault::connection(ErrorCode::StreamClosed, format!("{what} on a closed stream")))
    }

    fn request_headers(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        let parts = frame::headers(header, payload)?;
        let part = &payload[parts.fragment];
        let (stream, ended) = (header.stream, header.has(flag::END_STREAM));
        if header.has(flag::END_HEADERS) {
            return self.request_block(stream, part, ended);
        }
        self.client.block = Some(Block { stream, ended, octets: part.to_vec(), since: now() });
        Ok(())
    }

    fn request_block(&mut self, id: u32, block: &[u8], ended: bool) -> Result<(), Fault> {
        let most = self.worker.limits.http1.head_octets;
        let mut fields = std::mem::take(&mut self.fields);
        let decoded = self.client.decode(block, most, &mut fields)?;
        if self.streams.contains_key(&id) {
            let result = self.request_trailers(id, &fields, ended);
            self.fields = fields;
            return result;
        }
        if id.is_multiple_of(2) {
            return Err(Fault::connection(ErrorCode::Protocol, "request on a stream of even number"));
        }
        if id <= self.last_stream {
            return self.behind_the_end(id, "HEADERS");
        }
        self.last_stream = id;
        self.client.meter.request();
        self.clock.last = now();
        if self.leaving == Leaving::Last {
            self.refuse(id);
            return Ok(());
        }
        if self.streams.len() >= self.worker.limits.streams {
            return Err(Fault::stream(id, ErrorCode::RefusedStream, "more streams at once than allowed"));
        }
        self.ask(id, decoded, fields, ended)
    }

    /// They come after the verdict, so they end here: a server that takes them for headers would see what
    /// no rule was asked about.
    fn request_trailers(&mut self, id: u32, fields: &Fields, ended: bool) -> Result<(), Fault> {
        let Self { streams, upstreams, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return Ok(()) };
        if stream.upload.ended {
            return Err(Fault::stream(id, ErrorCode::StreamClosed, "HEADERS behind the end of a request"));
        }
        if !ended {
            return Err(Fault::stream(id, ErrorCode::Protocol, "trailers that do not end the request"));
        }
        if let Some(fault) = fields.iter().find_map(|field| fault_of(&field)) {
            return Err(Fault::stream(id, ErrorCode::Protocol, format!("trailers: {fault}")));
        }
        stream.upload.end(None).map_err(|fault| wrong_body(id, fault))?;
        if let Some(upstream) = stream.upstream(upstreams) {
            stream.upload.pass(id, &[], &mut upstream.half, |_| ());
        }
        self.settle(id);
        Ok(())
    }

    /// Ends a stream, or the connection.
    fn client_fault(&mut self, fault: Fault) -> Result<(), Ended> {
        let (id, code, what) = match fault {
            Fault::Connection(code, what) => return Err(Ended::Fault { code, what }),
            Fault::Stream(id, code, what) => (id, code, what),
        };
        if id > self.last_stream {
            return Err(Ended::Fault { code, what: format!("{what}, on an idle stream") });
        }
        let what = match code {
            ErrorCode::FlowControl => format!("HTTP/2: flow-control error: {what}"),
            ErrorCode::RefusedStream => format!("HTTP/2: {what}"),
            _ => format!("HTTP/2: malformed request: {what}"),
        };
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.log.note(|recording| recording.refused(&what));
                // Nobody has given it up.
                stream.answered = true;
            }
            None => {
                let mut recording = Recording::start(&self.worker, &self.flow);
                recording.protocol("HTTP/2");
                recording.refused(&what);
            }
        }
        self.reset_client(id, code.into());
        self.stream_errors += 1;
        Ok(())
    }

    /// Whether the client makes more work for nothing than it may.
    fn check_patience(&self) -> Result<(), Ended> {
        if self.stream_errors > STREAM_ERRORS {
            return Err(Ended::StreamErrors);
        }
        let seconds = || now().saturating_sub(self.clock.began).as_secs();
        if self.given_up > GIVEN_UP_AT_ONCE + self.answered
            && self.given_up > GIVEN_UP_AT_ONCE + self.answered + GIVEN_UP_PER_SECOND * seconds()
        {
            return Err(Ended::GivenUp);
        }
        Ok(())
    }
}

fn idle(what: &str) -> Fault {
    Fault::connection(ErrorCode::Protocol, format!("{what} on an idle stream"))
}

/// What is wrong with the body of a message.
pub(super) fn wrong_body(id: u32, fault: BodyFault) -> Fault {
    match fault {
        BodyFault::OverWindow => {
            Fault::stream(id, ErrorCode::FlowControl, "more DATA than the stream's window")
        }
        BodyFault::Length => {
            Fault::stream(id, ErrorCode::Protocol, "body of another length than its header says")
        }
    }
}

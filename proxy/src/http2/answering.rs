//! What a server sends: answers, and the ends of them.

use l7_parsers::http2::{
    frame::{self, Code, ErrorCode, FrameHeader, HEADER, Kind, flag},
    hpack::Decoded,
};

use super::{
    asking::wrong_body,
    fault::Fault,
    fields::{Fields, fault_of},
    half::{Block, widened},
    request::canonical,
    session::Session,
    stream::{Asking, Stream},
    ticks::now,
};
use crate::{grpc::Side, upstream::UpstreamError, worker::Wanted};

/// Octets of a header block on the wire, for each that a head may have.
const BLOCK: usize = 4;

impl Session {
    /// Takes what the server at this place has sent.
    ///
    /// # Errors
    /// Where the connection to it cannot go on.
    pub(super) fn server_octets(&mut self, at: usize, octets: &[u8]) -> Result<(), UpstreamError> {
        let mut read = 0;
        loop {
            let frame = self.upstreams[at].half.frame(&octets[read..]);
            let result = match frame {
                Ok(None) => break,
                // A few octets of these may be many of a head, and the client takes none now.
                Ok(Some((header, _))) if is_head(header.kind) && self.client.out.is_full() => break,
                Ok(Some((header, payload))) => {
                    read += HEADER + payload.len();
                    match self.upstreams[at].half.meter.frame(&header, now) {
                        Ok(()) => self.server_frame(at, &header, payload),
                        Err(excess) => Err(excess.into()),
                    }
                }
                Err(fault) => Err(fault),
            };
            match result {
                Ok(()) => {}
                Err(Fault::Connection(code, what)) => {
                    frame::put_goaway(self.upstreams[at].half.out.octets(), 0, code as u32, b"");
                    return Err(UpstreamError::Protocol(what));
                }
                Err(Fault::Stream(id, code, what)) => self.server_breaks(at, id, code, what),
            }
        }
        self.upstreams[at].half.hold(&octets[read..], read);
        Ok(())
    }

    fn server_frame(&mut self, at: usize, header: &FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        match header.kind {
            Kind::Data => self.answer_data(at, header, payload),
            Kind::Headers => {
                let parts = frame::headers(header, payload)?;
                let part = &payload[parts.fragment];
                let (stream, ended) = (header.stream, header.has(flag::END_STREAM));
                if header.has(flag::END_HEADERS) {
                    return self.answer_block(at, stream, part, ended);
                }
                let block = Block { stream, ended, octets: part.to_vec(), since: now() };
                self.upstreams[at].half.block = Some(block);
                Ok(())
            }
            Kind::Continuation => {
                let most = self.worker.limits.http1.head_octets * BLOCK;
                match self.upstreams[at].half.continues(header, payload, most)? {
                    Some(Block { stream, ended, octets, .. }) => {
                        self.answer_block(at, stream, &octets, ended)
                    }
                    None => Ok(()),
                }
            }
            Kind::WindowUpdate => {
                self.server_widens(at, header.stream, frame::window_update(header, payload)?)
            }
            Kind::RstStream => {
                let code = frame::reset(header, payload)?;
                self.check_stream(at, header.stream)?;
                self.server_resets(at, header.stream, Code(code));
                Ok(())
            }
            Kind::Settings => {
                let settings = frame::settings(header, payload)?;
                if !header.has(flag::ACK) {
                    let number = self.upstreams[at].number;
                    let more = self.upstreams[at].half.settle(settings);
                    self.shift_rooms(more, |stream| stream.is_at(number).then_some(&mut stream.upload))?;
                    if more > 0 {
                        let half = &mut self.upstreams[at].half;
                        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.is_at(number))
                        {
                            stream.upload.list(*id, half);
                        }
                    }
                }
                Ok(())
            }
            Kind::Ping => {
                let octets = frame::ping(header, payload)?;
                if !header.has(flag::ACK) {
                    self.upstreams[at].half.out.pong(octets);
                }
                Ok(())
            }
            Kind::GoAway => {
                let last = frame::goaway(header, payload)?.last_stream;
                self.server_leaves(at, last);
                Ok(())
            }
            Kind::Priority => Ok(frame::priority(header, payload)?),
            Kind::PushPromise => {
                Err(Fault::connection(ErrorCode::Protocol, "PUSH_PROMISE that was not allowed"))
            }
            Kind::Unknown(_) => Ok(()),
        }
    }

    /// Streams that never were are no server's to speak of.
    fn check_stream(&self, at: usize, id: u32) -> Result<(), Fault> {
        if id > self.upstreams[at].last_stream || id.is_multiple_of(2) {
            return Err(Fault::connection(ErrorCode::Protocol, "frame on a stream that was not opened"));
        }
        Ok(())
    }

    fn server_widens(&mut self, at: usize, id: u32, octets: u32) -> Result<(), Fault> {
        if id == 0 {
            return self.upstreams[at].half.widen(octets);
        }
        self.check_stream(at, id)?;
        let upstream = &mut self.upstreams[at];
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.is_at(upstream.number)) else {
            return Ok(());
        };
        if !widened(&mut stream.upload.room, octets) {
            return Err(Fault::stream(id, ErrorCode::FlowControl, "window of the stream too large"));
        }
        stream.upload.list(id, &mut upstream.half);
        Ok(())
    }

    fn answer_data(&mut self, at: usize, header: &FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        let data = &payload[frame::data(header, payload)?];
        let id = header.stream;
        self.check_stream(at, id)?;
        let Self { streams, client, upstreams, share, clock, .. } = self;
        upstreams[at].half.came(header.length)?;
        let number = upstreams[at].number;
        let Some(stream) = streams.get_mut(&id).filter(|stream| stream.is_at(number)) else { return Ok(()) };
        if !stream.answered {
            return Err(Fault::stream(id, ErrorCode::Protocol, "DATA before the head of the answer"));
        }
        if stream.answer.ended {
            return Err(Fault::stream(id, ErrorCode::StreamClosed, "DATA behind the end of an answer"));
        }
        stream.answer.came(header.length, data.len()).map_err(|fault| wrong_body(id, fault))?;
        if header.has(flag::END_STREAM) {
            stream.answer.end(None).map_err(|fault| wrong_body(id, fault))?;
        }
        let log = &stream.log;
        let kept = stream.answer.pass(id, data, client, |octets| log.passes(Side::Answer, octets));
        if kept < data.len() || upstreams.iter().all(|upstream| upstream.half.waiting == 0) {
            clock.taken();
        }
        share.hold(kept);
        let half = &mut upstreams[at].half;
        half.waiting += kept;
        half.give_back_stream(id, &mut stream.answer, data.len() - kept);
        if header.has(flag::END_STREAM) {
            self.settle(id);
        }
        Ok(())
    }

    fn answer_block(&mut self, at: usize, id: u32, block: &[u8], ended: bool) -> Result<(), Fault> {
        let most = self.worker.limits.http1.head_octets;
        let mut fields = std::mem::take(&mut self.fields);
        let decoded = self.upstreams[at].half.decode(block, most, &mut fields)?;
        let result = self.check_stream(at, id).and_then(|()| match decoded {
            Decoded::Overlong => Err(Fault::stream(id, ErrorCode::Protocol, "head too large")),
            Decoded::Whole => self.answer_fields(at, id, &fields, ended),
        });
        self.fields = fields;
        result
    }

    fn answer_fields(&mut self, at: usize, id: u32, fields: &Fields, ended: bool) -> Result<(), Fault> {
        let number = self.upstreams[at].number;
        let Self { streams, client, share, .. } = self;
        let Some(stream) = streams.get_mut(&id).filter(|stream| stream.is_at(number)) else { return Ok(()) };
        if stream.answer.ended {
            return Err(Fault::stream(id, ErrorCode::StreamClosed, "HEADERS behind the end of an answer"));
        }
        let malformed = |fault| Fault::stream(id, ErrorCode::Protocol, fault);
        if stream.answered {
            if !ended {
                return Err(malformed("trailers that do not end the answer"));
            }
            if let Some(fault) = fields.iter().find_map(|field| fault_of(&field)) {
                return Err(malformed(fault));
            }
            if let Some(call) = stream.log.call() {
                call.says(fields);
            }
            stream.answer.end(Some(Box::new(fields.clone()))).map_err(|fault| wrong_body(id, fault))?;
            let log = &stream.log;
            let kept = stream.answer.pass(id, &[], client, |octets| log.passes(Side::Answer, octets));
            debug_assert_eq!(kept, 0, "there was nothing to keep");
            if stream.answer.waits() > 0 {
                // They wait behind the body.
                if !share.has_room(Wanted::Answers) {
                    return Err(Fault::stream(id, ErrorCode::EnhanceYourCalm, "no room for its trailers"));
                }
                stream.kept = fields.list_octets();
                share.hold(stream.kept);
            }
            self.settle(id);
            return Ok(());
        }
        let status = status(fields).map_err(malformed)?;
        if status < 200 {
            // Information on the way to the answer: the client knows what to make of it.
            if ended || status == 101 {
                return Err(malformed("status that HTTP/2 does not have"));
            }
            client.put_block(id, fields.iter(), false);
            return Ok(());
        }
        stream.answer.expect(length(stream, status, fields).map_err(malformed)?);
        if ended {
            stream.answer.end(None).map_err(|fault| wrong_body(id, fault))?;
        }
        stream.answered = true;
        self.answered += 1;
        stream.log.note(|recording| recording.answered(status));
        stream.log.begins(Some(fields));
        client.put_block(id, fields.iter(), ended);
        stream.answer.done = ended;
        if ended {
            self.settle(id);
        } else {
            stream.answer.last = now();
        }
        Ok(())
    }

    fn server_breaks(&mut self, at: usize, id: u32, code: ErrorCode, what: String) {
        let number = self.upstreams[at].number;
        if self.streams.get(&id).is_some_and(|stream| stream.is_at(number)) {
            self.leave_server(id, code.into());
            self.fail(id, &UpstreamError::MalformedHttp2(what).into());
        } else {
            frame::put_reset(self.upstreams[at].half.out.octets(), id, code);
        }
    }

    fn server_resets(&mut self, at: usize, id: u32, code: Code) {
        let upstream = &mut self.upstreams[at];
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.is_at(upstream.number)) else {
            return;
        };
        upstream.closes_stream();
        upstream.half.waiting -= stream.answer.waits();
        stream.asking = Asking::Nobody;
        if stream.answer.ended {
            // It has said all, and wants no more of the request (RFC 9113 §8.1).
            self.stop_listening(id);
            self.settle(id);
        } else if code == ErrorCode::RefusedStream.into() && !stream.answered {
            self.not_taken(id, UpstreamError::Reset(code));
        } else {
            self.fail(id, &UpstreamError::Reset(code).into());
        }
    }

    /// The server takes no more streams than up to this one.
    fn server_leaves(&mut self, at: usize, last: u32) {
        let upstream = &mut self.upstreams[at];
        upstream.leaves = true;
        let number = upstream.number;
        let mut untouched: Vec<u32> = Vec::new();
        for (id, stream) in &self.streams {
            if *id > last && stream.is_at(number) {
                untouched.push(*id);
            }
        }
        for id in untouched {
            self.not_taken(id, "the server took its leave before this request");
        }
    }
}

fn is_head(kind: Kind) -> bool {
    matches!(kind, Kind::Headers | Kind::Continuation)
}

/// Of a final answer or of an interim one. Checks the other fields with it.
fn status(fields: &Fields) -> Result<u16, &'static str> {
    let mut fields = fields.iter();
    let status = match fields.next() {
        Some(field) if field.name == b":status" => match *field.value {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err("invalid :status"),
        },
        _ => return Err("no :status"),
    };
    match fields.find_map(|field| fault_of(&field)) {
        Some(fault) => Err(fault),
        None => Ok(status),
    }
}

/// How long the body is to be; `None`: as long as it is.
fn length(stream: &Stream, status: u16, fields: &Fields) -> Result<Option<u64>, &'static str> {
    if stream.is_head || matches!(status, 204 | 304) {
        return Ok(Some(0));
    }
    let mut lengths = fields.iter().filter(|field| field.name == b"content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => canonical(length.value).map(Some).ok_or("invalid Content-Length"),
        (Some(_), Some(_)) => Err("several Content-Length headers"),
    }
}

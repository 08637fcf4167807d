//! Headers of requests and answers.

use bytes::Bytes;

use super::{
    api, decode,
    decode::{Extra, Malformed},
    encode::Pieces,
    schema::Message,
};

/// The first fields, which every version has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) api_key: i16,
    pub(super) api_version: i16,
    pub(super) correlation_id: i32,
}

impl Start {
    pub(super) fn read(frame: &Bytes) -> Result<Self, Malformed> {
        let mut reader = decode::Reader::new(frame, 0, false, 0);
        Ok(Self {
            api_key: reader.int(2)? as i16,
            api_version: reader.int(2)? as i16,
            correlation_id: reader.int(4)? as i32,
        })
    }
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) start: Start,
    /// As text of the wire, never compact, in all versions of the header.
    pub(super) client_id: Option<Bytes>,
    pub(super) extra: Extra,
}

impl Header {
    /// The header and where the body begins.
    pub(super) fn read(frame: &Bytes, flexible: bool) -> Result<(Self, usize), Malformed> {
        let start = Start::read(frame)?;
        let mut reader = decode::Reader::new(frame, 0, flexible, 0);
        reader.at = 8;
        let client_id = reader.text(false)?;
        if flexible {
            reader.tags(None, &mut [])?;
        }
        Ok((Self { start, client_id, extra: reader.extra }, reader.at))
    }

    pub(super) fn write(&self, flexible: bool, to: &mut Pieces) {
        to.int(self.start.api_key.into(), 2);
        to.int(self.start.api_version.into(), 2);
        to.int(self.start.correlation_id.into(), 4);
        to.text(self.client_id.as_ref(), false);
        if flexible {
            to.varint(0);
        }
    }
}

/// ApiVersions is answered with the oldest header, since its client knows nothing of the broker yet.
pub(super) fn answer_is_flexible(message: &Message, version: i16) -> bool {
    message.key != api::API_VERSIONS && message.flexible.contains(version)
}

/// Where the body of an answer begins.
pub(super) fn skip_answer(frame: &Bytes, flexible: bool) -> Result<usize, Malformed> {
    let mut reader = decode::Reader::new(frame, 0, flexible, 0);
    reader.int(4)?;
    if flexible {
        reader.tags(None, &mut [])?;
    }
    Ok(reader.at)
}

pub(super) fn write_answer(correlation_id: i32, flexible: bool, to: &mut Pieces) {
    to.int(correlation_id.into(), 4);
    if flexible {
        to.varint(0);
    }
}

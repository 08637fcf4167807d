//! A server's response head in the form in which the client gets it.

use std::io::Write;

use l7_parsers::http1::{Body, Field, Framing, ResponseFraming, ResponseHead, Version};

use super::{
    fields::{ConnectionOptions, announced_trailers, is, other_protocols},
    relay::Encoding,
    request::{Asked, Manner},
};

/// How a response that is no switch of protocols goes on behind its head.
pub(super) struct Following {
    pub(super) body: Body,
    pub(super) encoding: Encoding,
    /// The client's connection ends with it.
    pub(super) closes: bool,
    /// And that is how the client finds its end.
    pub(super) until_close: bool,
    /// The server's connection can take another request.
    pub(super) keeps_upstream: bool,
}

/// Writes the client's head for the head in `octets`. `closes`: the client's connection ends anyway.
pub(super) fn write_head(
    octets: &[u8],
    head: ResponseHead,
    manner: &Manner,
    closes: bool,
    out: &mut Vec<u8>,
) -> Following {
    let (reason, fields) = ResponseHead::parts(octets);
    let options = ConnectionOptions::of(ResponseHead::parts(octets).1);
    let framing = head.framing(manner.is_head);
    let (body, has_length) = match framing {
        ResponseFraming::Framed(framing) => (Body::new(framing), true),
        ResponseFraming::UntilClose => (Body::until_close(), false),
    };
    let chunked = matches!(framing, ResponseFraming::Framed(Framing::Chunked) | ResponseFraming::UntilClose);
    let until_close = chunked && manner.version == Version::Http10;
    let closes = closes || options.has("close") || until_close;

    status_line(head.status, reason, out);
    // A body that goes on chunked has no length, whatever the server wrote beside it; nor has none.
    let no_length = chunked || head.chunked || head.status == 204;
    let mut length_written = false;
    for field in fields {
        // Also where the server has named it in Connection: the client needs it to find the body's end.
        if is(field.name, "content-length") {
            if no_length || length_written {
                continue;
            }
            length_written = true;
        } else if options.ends_here(field.name) {
            continue;
        }
        line(field, out);
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    } else if manner.version == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    let encoding = if chunked && !until_close {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        let trailers = if manner.takes_trailers {
            announced_trailers(ResponseHead::parts(octets).1)
        } else {
            Vec::new()
        };
        Encoding::Chunked { trailers }
    } else {
        Encoding::Plain
    };
    out.extend_from_slice(b"\r\n");
    let server_closes = options.has("close")
        || head.version == Version::Http10 && !options.has("keep-alive")
        || manner.sent_as == Version::Http10;
    Following { body, encoding, closes, until_close, keeps_upstream: has_length && !server_closes }
}

/// Writes the client's head where the server has switched protocols as the request asked. `None`: it
/// has switched to something else.
pub(super) fn write_switch(
    octets: &[u8],
    head: ResponseHead,
    asked: &Asked,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (reason, fields) = ResponseHead::parts(octets);
    let options = ConnectionOptions::of(ResponseHead::parts(octets).1);
    status_line(head.status, reason, out);
    for field in fields {
        if !options.ends_here(field.name) && !is(field.name, "content-length") {
            line(field, out);
        }
    }
    if head.status == 101 {
        let upgrades: Vec<&[u8]> = ResponseHead::parts(octets)
            .1
            .filter(|field| is(field.name, "upgrade"))
            .map(|field| field.value)
            .collect();
        let chosen = other_protocols(upgrades.iter().copied());
        let named: usize = upgrades.iter().map(|value| value.split(|octet| *octet == b',').count()).sum();
        // All of them: one that is HTTP, or no name at all, is no switch that may pass.
        if asked.is_connect()
            || chosen.is_empty()
            || chosen.len() != named
            || !asked.offered(chosen.iter().copied())
        {
            return None;
        }
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(chosen.join(", ").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Some(())
}

fn status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {status} ");
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn line(field: Field<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value);
    out.extend_from_slice(b"\r\n");
}

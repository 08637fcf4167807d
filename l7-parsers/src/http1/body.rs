//! The octets behind a head.

use super::{
    Framing, Limits, Refusal,
    chunked::{Chunked, Progress},
    fields::{self, SectionScan},
};

/// Follows the body of one message, a request's or a response's.
#[derive(Debug)]
pub struct Body(State);

#[derive(Debug)]
enum State {
    Length { left: u64 },
    Chunked(Chunked),
    Trailers(SectionScan),
    UntilClose,
    Complete,
}

/// What the octets at the front of the input are.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing can be said before more octets have come: show them again, with more.
    More,
    /// Octets of the content.
    Content { octets: usize },
    /// Chunk sizes, extensions and line ends.
    Framing { octets: usize },
    /// The whole trailer section, its empty line included. The body is complete.
    Trailers { octets: usize },
}

impl Body {
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked(Chunked::START),
        })
    }

    /// A response's that ends with its connection.
    #[must_use]
    pub fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether the next octet belongs to another message.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.0, State::Complete)
    }

    /// Whether all octets up to its end are content.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        matches!(self.0, State::Length { .. } | State::UntilClose)
    }

    /// Whether the end of the stream is the end of the body, or at least not before it.
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self.0, State::Complete | State::UntilClose)
    }

    /// Judges the octets at the front of `input`, which no earlier call has consumed.
    ///
    /// # Errors
    /// [`Refusal`] where the chunk framing or the trailers are not well-formed. The octets before the
    /// offending one were consumed by earlier calls.
    pub fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Part, Refusal> {
        if input.is_empty() {
            return Ok(Part::More);
        }
        match &mut self.0 {
            State::Complete => Ok(Part::More),
            State::UntilClose => Ok(Part::Content { octets: input.len() }),
            State::Length { left } => {
                let octets = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= octets as u64;
                if *left == 0 {
                    self.0 = State::Complete;
                }
                Ok(Part::Content { octets })
            }
            State::Chunked(chunked) => match chunked.advance(input, limits)? {
                Progress::Data { octets } => Ok(Part::Content { octets }),
                Progress::Framing { octets } => Ok(Part::Framing { octets }),
                Progress::LastChunk { octets } => {
                    self.0 = State::Trailers(SectionScan::new());
                    Ok(Part::Framing { octets })
                }
            },
            State::Trailers(scan) => {
                let Some(octets) = scan.advance(input, limits)? else { return Ok(Part::More) };
                fields::check_trailers(&input[..octets])?;
                self.0 = State::Complete;
                Ok(Part::Trailers { octets })
            }
        }
    }
}

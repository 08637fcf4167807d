//! The byte stream of a connection, request after request.

use super::{Body, Head, Limits, Part, Refusal, fields::SectionScan};

/// Follows the octets that a client sends.
///
/// The caller shows it the octets that no step has consumed yet, in order, and passes on what the
/// steps allow. How the stream is cut into inputs makes no difference to what passes.
pub struct Scanner {
    limits: Limits,
    state: State,
}

enum State {
    /// Between requests. `blank`: an empty line was skipped already.
    Start {
        blank: bool,
    },
    Head(SectionScan),
    /// `may_switch` of the head is kept until the body has ended.
    Body {
        body: Body,
        may_switch: bool,
    },
    /// The request is complete; whether the stream goes on as HTTP is the server's to say.
    Undecided,
    Opaque,
    Refused(Refusal),
}

/// What the next octets are. Counts are from the start of the input.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No octet of the input can be judged before more have come: show them again, with more.
    More,
    /// `octets` mean nothing and must not be passed on (an empty line before a request).
    Skip { octets: usize },
    /// A whole head of `octets` octets.
    Head { octets: usize, head: Head },
    /// Octets of the current request's body.
    Body { octets: usize },
    /// Octets that frame it: chunk sizes, extensions and line ends.
    Framing { octets: usize },
    /// The trailer section behind its last chunk, with the empty line.
    Trailers { octets: usize },
    /// The last head may end HTTP on this stream: [`Scanner::go_on`] or [`Scanner::switch`] first.
    Undecided,
    /// The stream is not HTTP any more.
    Opaque { octets: usize },
    /// Nothing of the input may pass, now or later.
    Refused(Refusal),
}

impl Scanner {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Start { blank: false } }
    }

    /// Whether the stream stands inside a request's head.
    #[must_use]
    pub fn in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether the stream stands between two requests, or before the first.
    #[must_use]
    pub fn between_requests(&self) -> bool {
        matches!(self.state, State::Start { .. })
    }

    /// Whether all octets up to the end of the current request are content of its body.
    #[must_use]
    pub fn in_counted_body(&self) -> bool {
        matches!(&self.state, State::Body { body, .. } if body.is_counted())
    }

    /// Whether nothing can be judged before [`Scanner::go_on`] or [`Scanner::switch`].
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        matches!(self.state, State::Undecided)
    }

    /// The server has not switched protocols: another request may follow.
    pub fn go_on(&mut self) {
        if let State::Undecided = self.state {
            self.state = State::Start { blank: false };
        }
    }

    /// The server has switched protocols.
    pub fn switch(&mut self) {
        if let State::Undecided = self.state {
            self.state = State::Opaque;
        }
    }

    /// Judges the octets at the front of `input`. An empty input is [`Step::More`] unless the state
    /// alone gives the answer.
    pub fn step(&mut self, input: &[u8]) -> Step {
        match self.advance(input) {
            Ok(step) => step,
            Err(refusal) => {
                self.state = State::Refused(refusal);
                Step::Refused(refusal)
            }
        }
    }

    fn advance(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        if let State::Start { blank } = &mut self.state {
            match (input, *blank) {
                ([], _) | ([b'\r'], false) => return Ok(Step::More),
                // RFC 9112 §2.2: old clients end a body with one.
                ([b'\r', b'\n', ..], false) => {
                    *blank = true;
                    return Ok(Step::Skip { octets: 2 });
                }
                ([b'\r' | b'\n', ..], _) => return Err(Refusal::InvalidRequestLine),
                _ => self.state = State::Head(SectionScan::new()),
            }
        }
        match &mut self.state {
            State::Refused(refusal) => Err(*refusal),
            State::Undecided => Ok(Step::Undecided),
            State::Opaque if input.is_empty() => Ok(Step::More),
            State::Opaque => Ok(Step::Opaque { octets: input.len() }),
            State::Head(scan) => {
                let Some(octets) = scan.advance(input, &self.limits)? else { return Ok(Step::More) };
                let head = Head::parse(&input[..octets], &self.limits)?;
                self.state = after(Body::new(head.framing), head.may_switch);
                Ok(Step::Head { octets, head })
            }
            State::Body { body, may_switch } => {
                let step = match body.advance(input, &self.limits)? {
                    Part::More => Step::More,
                    Part::Content { octets } => Step::Body { octets },
                    Part::Framing { octets } => Step::Framing { octets },
                    Part::Trailers { octets } => Step::Trailers { octets },
                };
                if body.is_complete() {
                    self.state = if *may_switch { State::Undecided } else { State::Start { blank: false } };
                }
                Ok(step)
            }
            State::Start { .. } => Ok(Step::More),
        }
    }
}

fn after(body: Body, may_switch: bool) -> State {
    match (body.is_complete(), may_switch) {
        (false, may_switch) => State::Body { body, may_switch },
        (true, true) => State::Undecided,
        (true, false) => State::Start { blank: false },
    }
}

#[cfg(test)]
mod tests;

//! Why a client's octets go no further.

use http::StatusCode;
use l7_parsers::http1::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Malformed(Refusal),
    #[error("request head not complete in time")]
    HeadTime,
    #[error("request body stalled")]
    Stalled,
    /// The client has ended its side in the middle of one.
    #[error("request cut off")]
    CutOff,
}

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(refusal) => {
                StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::HeadTime | Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff => StatusCode::BAD_REQUEST,
        }
    }
}

//! What the guard and the service of one connection tell each other.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

use http::StatusCode;
use l7_parsers::http1::{Head, Refusal};

/// Shared by a connection's [`super::Guard`] and its service, which run on one thread.
#[derive(Clone, Default)]
pub(crate) struct Shared(Rc<State>);

#[derive(Default)]
struct State {
    /// In stream order: one for each request that the library will hand to the service.
    arrivals: RefCell<VecDeque<Arrival>>,
    decision: Cell<Option<GoesOn>>,
    waiting: RefCell<Option<Waker>>,
    broken: Cell<Option<Refused>>,
}

/// What the scan found where the library finds a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    Head(Head),
    Refused(Refused),
}

/// After a request that asked to switch protocols, the stream is HTTP all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoesOn;

/// Why a client's octets do not reach the library.
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
            Self::CutOff => StatusCode::BAD_REQUEST,
            Self::HeadTime | Self::Stalled => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl Shared {
    pub(super) fn arrived(&self, arrival: Arrival) {
        self.0.arrivals.borrow_mut().push_back(arrival);
    }

    /// What the scan found at the request that the service is called with. `None`: the library sees
    /// a request where the scan saw none.
    pub(crate) fn next_arrival(&self) -> Option<Arrival> {
        self.0.arrivals.borrow_mut().pop_front()
    }

    pub(super) fn broke(&self, refused: Refused) {
        self.0.broken.set(Some(refused));
    }

    /// Why the body of the request at hand broke, if it did.
    pub(crate) fn broken(&self) -> Option<Refused> {
        self.0.broken.get()
    }

    /// The request at hand has asked to switch protocols, and nothing comes of it.
    pub(crate) fn go_on(&self) {
        self.0.decision.set(Some(GoesOn));
        if let Some(waker) = self.0.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn take_decision(&self) -> Option<GoesOn> {
        self.0.decision.take()
    }

    pub(super) fn wait_for_decision(&self, cx: &Context<'_>) {
        *self.0.waiting.borrow_mut() = Some(cx.waker().clone());
    }
}

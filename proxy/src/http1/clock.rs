//! The time limits of one side of a connection: one timer, whatever it is that is waited for.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

#[derive(Default)]
pub(crate) struct Clock(Option<Pin<Box<Sleep>>>);

/// How long something may take in all. Counts from the first time that it has to be waited for.
pub(crate) struct Limit {
    time: Duration,
    until: Option<Instant>,
}

impl Limit {
    pub(crate) fn of(time: Duration) -> Self {
        Self { time, until: None }
    }
}

/// The time is up.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl Clock {
    /// Polls `op` until it is ready or the limit is reached.
    pub(crate) async fn within<T>(
        &mut self,
        limit: &mut Limit,
        mut op: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Elapsed> {
        poll_fn(|cx| {
            if let Poll::Ready(value) = op(cx) {
                return Poll::Ready(Ok(value));
            }
            let until = *limit.until.get_or_insert_with(|| Instant::now() + limit.time);
            self.poll_until(until, cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// A timer that is armed for an earlier time is left to fire: most waits end long before, and
    /// arming costs more than looking.
    fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

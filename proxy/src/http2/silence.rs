//! How long a sender has been silent. What it sends only moves a number: the timer is armed for the
//! first silence, and again only where it fires too early.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Sleep, sleep};

pub(crate) struct Silence {
    most: Duration,
    /// What came last, by [`now`].
    since: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, since: Duration::ZERO, timer: None }
    }

    /// Something has come.
    pub(crate) fn end(&mut self) {
        if self.timer.is_some() {
            self.since = now();
        }
    }

    /// Ready when the silence has lasted for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                self.since = now();
                none.insert(Box::pin(sleep(self.most)))
            }
        };
        loop {
            ready!(timer.as_mut().poll(cx));
            let left = self.most.saturating_sub(now().saturating_sub(self.since));
            if left.is_zero() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + left);
        }
    }
}

/// Since some beginning, as of the kernel's last tick: some ms late, and far cheaper to ask than the time.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_says_something_is_not_silent() {
        let most = Duration::from_millis(200);
        let mut silence = Silence::new(most);
        let began = Instant::now();
        for _ in 0..8 {
            let wait = poll_fn(|cx| silence.poll(cx));
            if timeout(most / 4, wait).await.is_ok() {
                // A machine that stopped for as long.
                assert!(began.elapsed() >= most);
                return;
            }
            silence.end();
        }
        let last = Instant::now();
        poll_fn(|cx| silence.poll(cx)).await;
        assert!(last.elapsed() >= most - Duration::from_millis(20), "{:?}", last.elapsed());
        assert!(poll_fn(|cx| Poll::Ready(silence.poll(cx))).await.is_ready(), "and stays so");
    }
}

//! The end of a proxy, step by step.

use std::time::Duration;

use tokio::time::Instant;

use crate::worker::Stage;

/// Connections that the kernel had begun to hand to this proxy when its successor took over are still
/// completed: a client's last ACK may be lost twice.
const LATE_HANDSHAKES: Duration = Duration::from_secs(4);
/// How long a kept connection may wait for the request whose answer tells that it is the last one.
const LAST_REQUEST: Duration = Duration::from_secs(10);

/// Who serves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// Another proxy has the listeners' places already.
    Serves,
    /// Nobody: the sooner the end, the sooner the next one.
    None,
}

/// An order to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) time: Duration,
    pub(super) successor: Successor,
}

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    accept_until: Instant,
    idle_until: Instant,
    until: Instant,
}

impl Draining {
    pub(super) fn begin(drain: Drain, earlier: Option<Self>, now: Instant) -> Self {
        let wait = |time: Duration| match drain.successor {
            Successor::Serves => now + time.min(drain.time / 2),
            Successor::None => now,
        };
        let new = Self {
            accept_until: wait(LATE_HANDSHAKES),
            idle_until: wait(LAST_REQUEST),
            until: now + drain.time,
        };
        match earlier {
            None => new,
            Some(earlier) => Self {
                accept_until: new.accept_until.min(earlier.accept_until),
                idle_until: new.idle_until.min(earlier.idle_until),
                until: new.until.min(earlier.until),
            },
        }
    }

    /// Whether the listeners stay.
    pub(super) fn accepts(&self, now: Instant) -> bool {
        now < self.accept_until
    }

    /// What the connections are to know.
    pub(super) fn stage(&self, now: Instant) -> Stage {
        if now >= self.until {
            Stage::Cut
        } else if now >= self.idle_until {
            Stage::IdleEnds
        } else {
            Stage::LastAnswers
        }
    }

    /// When the next step is due.
    pub(super) fn next_step(&self, now: Instant) -> Option<Instant> {
        [self.accept_until, self.idle_until, self.until].into_iter().filter(|step| *step > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_proxy_takes_its_time_and_one_without_a_successor_none() {
        let time = Duration::from_secs(60);
        let start = Instant::now();
        let replaced = Draining::begin(Drain { time, successor: Successor::Serves }, None, start);
        assert!(replaced.accepts(start));
        assert_eq!(replaced.stage(start), Stage::LastAnswers);
        let second = replaced.next_step(start).unwrap();
        assert!(!replaced.accepts(second));
        assert_eq!(replaced.stage(second), Stage::LastAnswers);
        let third = replaced.next_step(second).unwrap();
        assert_eq!(replaced.stage(third), Stage::IdleEnds);

        let told_to_end = Drain { time: Duration::from_secs(5), successor: Successor::None };
        let ended = Draining::begin(told_to_end, Some(replaced), third);
        assert!(!ended.accepts(third));
        let end = ended.next_step(third).unwrap();
        assert_eq!(end, third + told_to_end.time);
        assert_eq!((ended.stage(end), ended.next_step(end)), (Stage::Cut, None));
        assert_eq!(replaced.stage(end), Stage::IdleEnds);
    }
}

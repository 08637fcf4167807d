//! What a record's numbers meant when it came, so that it can be told in words later on: numbers may be
//! another's by then, and most records are never read.

use std::sync::Arc;

use tektin_abi::maps::Event;
use tektin_proxy::link_proto::RecordNumbers;

use super::resolve::{Direction, EndpointName, Resolve};

/// The numbers of one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    identities: [u32; 2],
    /// Source and destination; 0: none of this node.
    endpoints: [u32; 2],
    rules: [u32; 2],
}

impl From<&Event> for Numbers {
    fn from(event: &Event) -> Self {
        Self {
            identities: [event.src_identity, event.dst_identity],
            endpoints: [event.src_endpoint, event.dst_endpoint],
            rules: [event.egress_rule, event.ingress_rule],
        }
    }
}

impl From<&RecordNumbers> for Numbers {
    fn from(numbers: &RecordNumbers) -> Self {
        Self {
            identities: [numbers.src_identity, numbers.dst_identity],
            endpoints: [numbers.src_endpoint, numbers.dst_endpoint],
            rules: [numbers.egress_rule, numbers.ingress_rule],
        }
    }
}

/// What they meant. Answers for these numbers alone.
#[derive(Debug)]
pub struct Meanings {
    numbers: Numbers,
    node: Arc<str>,
    labels: [Option<Arc<[Arc<str>]>>; 2],
    names: [Option<EndpointName>; 2],
    rules: [Option<Arc<str>>; 2],
    /// Of the source's egress, of the destination's ingress.
    default_deny: [Option<Arc<str>>; 2],
}

impl Meanings {
    fn new(numbers: Numbers, resolve: &dyn Resolve) -> Self {
        let [source, destination] = numbers.endpoints;
        Self {
            numbers,
            node: resolve.node(),
            labels: numbers.identities.map(|identity| resolve.identity_labels(identity)),
            names: numbers.endpoints.map(|id| (id != 0).then(|| resolve.endpoint(id)).flatten()),
            rules: numbers.rules.map(|rule| (rule != 0).then(|| resolve.rule(rule)).flatten()),
            default_deny: [
                resolve.default_deny(source, Direction::Egress),
                resolve.default_deny(destination, Direction::Ingress),
            ],
        }
    }
}

fn of<T: Clone>(number: u32, numbers: [u32; 2], meanings: &[Option<T>; 2]) -> Option<T> {
    let at = numbers.iter().position(|own| *own == number)?;
    meanings[at].clone()
}

impl Resolve for Meanings {
    fn node(&self) -> Arc<str> {
        self.node.clone()
    }

    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>> {
        of(identity, self.numbers.identities, &self.labels)
    }

    fn endpoint(&self, id: u32) -> Option<EndpointName> {
        of(id, self.numbers.endpoints, &self.names)
    }

    fn rule(&self, id: u32) -> Option<Arc<str>> {
        of(id, self.numbers.rules, &self.rules)
    }

    fn default_deny(&self, endpoint: u32, direction: Direction) -> Option<Arc<str>> {
        let at = match direction {
            Direction::Egress => 0,
            Direction::Ingress => 1,
        };
        (self.numbers.endpoints[at] == endpoint).then(|| self.default_deny[at].clone()).flatten()
    }
}

/// The meanings of one batch of records, most of which have the same numbers as one shortly before.
pub struct Now<'a> {
    resolve: &'a dyn Resolve,
    recent: Vec<Arc<Meanings>>,
    oldest: usize,
}

/// More than so many are not looked through.
const RECENT: usize = 8;

impl<'a> Now<'a> {
    #[must_use]
    pub fn new(resolve: &'a dyn Resolve) -> Self {
        Self { resolve, recent: Vec::new(), oldest: 0 }
    }

    #[must_use]
    pub fn of(&mut self, numbers: Numbers) -> Arc<Meanings> {
        if let Some(known) = self.recent.iter().find(|known| known.numbers == numbers) {
            return known.clone();
        }
        let new = Arc::new(Meanings::new(numbers, self.resolve));
        if self.recent.len() < RECENT {
            self.recent.push(new.clone());
        } else {
            self.recent[self.oldest] = new.clone();
            self.oldest = (self.oldest + 1) % RECENT;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::testing::{RULE, World};

    fn numbers(src_identity: u32) -> Numbers {
        Numbers { identities: [src_identity, 257], endpoints: [1, 2], rules: [0, 7] }
    }

    #[test]
    fn they_say_what_was_known_then() {
        let known = Now::new(&World).of(numbers(256));
        for id in [256, 257] {
            assert_eq!(known.identity_labels(id), World.identity_labels(id));
        }
        assert_eq!((known.endpoint(1), known.endpoint(2)), (World.endpoint(1), World.endpoint(2)));
        assert_eq!((known.rule(7).as_deref(), known.rule(0)), (Some(RULE), None));
        assert_eq!(known.default_deny(2, Direction::Ingress), World.default_deny(2, Direction::Ingress));
        assert_eq!(known.default_deny(2, Direction::Egress), None);
        assert_eq!(known.identity_labels(2), None, "no number of this record");
    }

    #[test]
    fn the_same_numbers_mean_the_same() {
        let mut now = Now::new(&World);
        let first = now.of(numbers(256));
        assert!(Arc::ptr_eq(&first, &now.of(numbers(256))));
        for identity in 1000..1100 {
            assert_eq!(now.of(numbers(identity)).numbers, numbers(identity));
        }
        assert_eq!(now.recent.len(), RECENT);
    }
}

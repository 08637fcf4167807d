//! Which idle connections to servers no client connection has any more, by who may have them next.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use crate::capture::Flow;

/// Of one path. A load that needs more of them at a time opens further ones as if there were none.
const MOST: usize = 128;

/// Between which ends a connection was opened: the client's address, the server's, and both identities and
/// endpoints. Whoever comes from and goes to the same may have it; the client's port is all that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    from: IpAddr,
    to: SocketAddr,
    identities: [u32; 2],
    endpoints: [u32; 2],
}

impl Path {
    pub(super) fn of(flow: &Flow) -> Self {
        let ends = &flow.steered;
        Self {
            from: flow.peer.0.ip(),
            to: flow.original_dst.0,
            identities: [ends.src_identity, ends.dst_identity],
            endpoints: [ends.src_endpoint, ends.dst_endpoint],
        }
    }
}

/// Numbers of spare connections, the one that was left last at the end.
#[derive(Default)]
pub(super) struct Spare(HashMap<Path, VecDeque<usize>>);

impl Spare {
    pub(super) fn has_room(&self, path: &Path) -> bool {
        self.0.get(path).is_none_or(|those| those.len() < MOST)
    }

    pub(super) fn add(&mut self, path: Path, number: usize) {
        self.0.entry(path).or_default().push_back(number);
    }

    pub(super) fn newest(&self, path: &Path) -> Option<usize> {
        self.0.get(path)?.back().copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.0.values().flatten().copied()
    }

    pub(super) fn remove(&mut self, path: &Path, number: usize) {
        let Some(those) = self.0.get_mut(path) else { return };
        if those.back() == Some(&number) {
            those.pop_back();
        } else {
            those.retain(|other| *other != number);
        }
        if those.is_empty() {
            self.0.remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use tektin_abi::maps::SteeredValue;

    use super::*;
    use crate::capture::{OriginalDst, PeerAddr};

    #[test]
    fn nobody_has_a_connection_of_another_end() {
        let flow = |peer: &str, dst: &str, steered: SteeredValue| {
            Path::of(&Flow {
                peer: PeerAddr(peer.parse().unwrap()),
                original_dst: OriginalDst(dst.parse().unwrap()),
                steered,
            })
        };
        let ends = SteeredValue {
            src_identity: 1,
            dst_identity: 2,
            src_endpoint: 3,
            dst_endpoint: 4,
            ..Default::default()
        };
        let own = flow("10.0.0.1:40000", "10.0.0.9:80", ends);
        let mut spare = Spare::default();
        spare.add(own, 7);
        for other in [
            flow("10.0.0.2:40000", "10.0.0.9:80", ends),
            flow("10.0.0.1:40000", "10.0.0.8:80", ends),
            flow("10.0.0.1:40000", "10.0.0.9:81", ends),
            flow("10.0.0.1:40000", "10.0.0.9:80", SteeredValue { src_identity: 9, ..ends }),
            flow("10.0.0.1:40000", "10.0.0.9:80", SteeredValue { dst_identity: 9, ..ends }),
            flow("10.0.0.1:40000", "10.0.0.9:80", SteeredValue { src_endpoint: 9, ..ends }),
            flow("10.0.0.1:40000", "10.0.0.9:80", SteeredValue { dst_endpoint: 9, ..ends }),
        ] {
            assert_eq!(spare.newest(&other), None, "{other:?}");
        }
        let next = SteeredValue { egress_rule: 5, revision: 6, ..ends };
        assert_eq!(spare.newest(&flow("10.0.0.1:40001", "10.0.0.9:80", next)), Some(7));
        spare.remove(&own, 7);
        assert_eq!((spare.newest(&own), spare.0.len()), (None, 0));
    }

    #[test]
    fn a_path_has_no_more_than_its_part() {
        let mut spare = Spare::default();
        let path = Path {
            from: [10, 0, 0, 1].into(),
            to: ([10, 0, 0, 2], 80).into(),
            identities: [1, 2],
            endpoints: [0, 0],
        };
        for number in 0..MOST {
            assert!(spare.has_room(&path));
            spare.add(path, number);
        }
        assert!(!spare.has_room(&path));
        assert_eq!(spare.newest(&path), Some(MOST - 1));
        assert_eq!(spare.all().count(), MOST);
    }
}

//! A node in small: drawn policy tables, a conntrack table, and the steps that the kernel programs
//! take around the decisions (`redirect-ebpf/programs/src/pipeline.rs`), with every packet that the
//! network sends. The proxy is a set of flows for which it has a socket.

use std::collections::{HashMap, HashSet};

use tektin_abi::{
    conntrack::{self, Admission, Direction, Passing, Sender, Standing},
    judge::{End, Judgement, Tables, judge},
    maps::{Addr, CtValue, FlowKey, PolicyKey, PolicyRoot, PolicyValue, ct_flag, prefix, proto},
    packet::Packet,
};

use crate::draw::Draw;

/// Policy tables over two endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    /// Of endpoints 1 and 2.
    roots: [PolicyRoot; 2],
    classes: HashMap<(u32, u32), u32>,
    entries: Vec<(PolicyKey, PolicyValue)>,
}

impl Drawn {
    pub(super) fn new(draw: &mut Draw<'_>) -> Self {
        let policy = |draw: &mut Draw<'_>| draw.one(&[1, 2, 3, 0]);
        let roots = [0, 1].map(|_| PolicyRoot { ingress: policy(draw), egress: policy(draw) });
        let mut classes = HashMap::new();
        for identity in draw.many(4, |draw| draw.one(&[256, 257, 9, 1])) {
            classes.insert((draw.one(&[1, 2, 3]), identity), 1);
        }
        let entries = draw.many(10, |draw| {
            let protocol = draw.one(&[proto::TCP, proto::TCP, proto::UDP, proto::ICMP, proto::ANY]);
            let port: u16 = draw.one(&[80, 4000, 8, 81]);
            let key = PolicyKey {
                prefix_len: match protocol {
                    proto::ANY => prefix::ANY_PROTO,
                    _ => prefix::ANY_PORT + draw.one(&[16, 16, 15, 0]),
                },
                policy_be: draw.one(&[1u32, 2, 3]).to_be_bytes(),
                class_be: draw.one(&[0u32, 1]).to_be_bytes(),
                proto: protocol,
                _pad: 0,
                port_be: port.to_be_bytes(),
            };
            // Also an action that nobody has heard of.
            let action = draw.one(&[1, 1, 1, 2, 0, 9]);
            (key, PolicyValue { action, rule: draw.one(&[0, 7]), ..PolicyValue::default() })
        });
        Self { roots, classes, entries }
    }
}

impl Tables for Drawn {
    fn policy_root(&self, endpoint: u32) -> Option<PolicyRoot> {
        self.roots.get(endpoint as usize - 1).copied()
    }

    fn peer_class(&self, policy: u32, identity: u32) -> u32 {
        self.classes.get(&(policy, identity)).copied().unwrap_or(0)
    }

    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        let octets = |key: &PolicyKey| {
            let ([a, b, c, d], [e, f, g, h], [i, j]) = (key.policy_be, key.class_be, key.port_be);
            [a, b, c, d, e, f, g, h, key.proto, 0, i, j]
        };
        let wanted = octets(key);
        let covers = |entry: &PolicyKey| {
            let (have, bits) = (octets(entry), entry.prefix_len as usize);
            (0..bits).all(|bit| (have[bit / 8] ^ wanted[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        };
        let matching = self.entries.iter().filter(|(entry, _)| covers(entry));
        matching.max_by_key(|(entry, _)| entry.prefix_len).map(|(_, value)| *value)
    }
}

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hook {
    FromWorkload,
    ToWorkload,
    FromOutside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Pass,
    ToProxy,
    Drop,
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) tables: Drawn,
    pub(super) ct: HashMap<FlowKey, CtValue>,
    /// Flows, as their originators send them, that end in a socket of the proxy.
    pub(super) sockets: HashSet<FlowKey>,
    pub(super) revision: u32,
    pub(super) now: u64,
    /// The number that the second workload's labels have now.
    pub(super) second: u32,
}

impl Node {
    /// 10.0.0.1 and .2 are workloads, .3 is the host, all else is the world.
    pub(super) fn end(&self, addr: &Addr) -> End {
        match addr[12..] {
            [10, 0, 0, 1] => End { identity: 256, endpoint: 1 },
            [10, 0, 0, 2] => End { identity: self.second, endpoint: 2 },
            [10, 0, 0, 3] => End { identity: 1, endpoint: 0 },
            _ => End { identity: 9, endpoint: 0 },
        }
    }

    pub(super) fn judge(&self, flow: &FlowKey) -> Judgement {
        judge(&self.tables, flow, self.end(&flow.src), self.end(&flow.dst))
    }

    /// All hooks that a packet meets on its way.
    pub(super) fn send(&mut self, packet: &Packet) -> Action {
        let (src, dst) = (packet.keys.forward.src, packet.keys.forward.dst);
        let (from, to) = (self.end(&src), self.end(&dst));
        let first = match from {
            End { endpoint: 1.., .. } => Some((Hook::FromWorkload, Passing::From(from.endpoint))),
            End { identity: 1, .. } => None,
            _ if to.endpoint != 0 => Some((Hook::FromOutside, Passing::Elsewhere)),
            _ => return Action::Pass,
        };
        if let Some((hook, passing)) = first {
            let action = self.track(packet, hook, passing);
            if action != Action::Pass {
                return action;
            }
        }
        match to.endpoint {
            0 => Action::Pass,
            endpoint => self.track(packet, Hook::ToWorkload, Passing::To(endpoint)),
        }
    }

    fn track(&mut self, packet: &Packet, hook: Hook, passing: Passing) -> Action {
        let (now, at) = (self.now, (self.revision, self.now));
        let keys = packet.keys;
        let standing_of = |entry: Option<&CtValue>, direction| {
            entry.map_or(Standing::Absent, |e| conntrack::standing(e, direction, passing, packet, at))
        };
        let (mut direction, mut flow) = (Direction::Forward, keys.forward);
        let mut standing = standing_of(self.ct.get(&flow), direction);
        if standing == Standing::Absent && keys.reverse.proto != 0 {
            (direction, flow) = (Direction::Reply, keys.reverse);
            standing = standing_of(self.ct.get(&flow), direction);
        }
        let mut answered = false;
        if let Some(entry) = self.ct.get_mut(&flow) {
            match standing {
                Standing::Absent => {
                    answered = direction == Direction::Reply;
                    if answered && entry.flags & ct_flag::DENIED != 0 {
                        answered = false;
                        self.ct.remove(&flow);
                    }
                }
                Standing::Pass => {
                    conntrack::note(entry, direction, packet, now);
                    return Action::Pass;
                }
                Standing::Proxied => {
                    if let Some(action) = self.proxied(packet, hook) {
                        if action != Action::Drop
                            && let Some(entry) = self.ct.get_mut(&flow)
                        {
                            conntrack::note(entry, direction, packet, now);
                        }
                        return action;
                    }
                }
                Standing::Drop(_) => {
                    conntrack::note_denied(entry, keys.forward.proto, now);
                    return Action::Drop;
                }
                Standing::Stale => return self.again(packet, hook, flow, direction),
            }
        }
        self.first(packet, hook, answered)
    }

    /// `None`: a SYN that has no socket.
    fn proxied(&self, packet: &Packet, hook: Hook) -> Option<Action> {
        if hook == Hook::ToWorkload {
            return Some(Action::Drop);
        }
        let keys = packet.keys;
        if self.sockets.contains(&keys.forward) || self.sockets.contains(&keys.reverse) {
            return Some(Action::ToProxy);
        }
        if packet.opens_connection() { None } else { Some(Action::Drop) }
    }

    fn again(&mut self, packet: &Packet, hook: Hook, flow: FlowKey, direction: Direction) -> Action {
        let (ends, judgement) = ((self.end(&flow.src), self.end(&flow.dst)), self.judge(&flow));
        let at = (self.revision, self.now);
        let Some(entry) = self.ct.get_mut(&flow) else { return Action::Drop };
        let after = conntrack::rejudge(entry, &flow, ends, judgement, at);
        if !matches!(after, Standing::Drop(_)) {
            conntrack::note(entry, direction, packet, at.1);
        }
        match after {
            Standing::Pass => Action::Pass,
            Standing::Proxied => self.proxied(packet, hook).unwrap_or(Action::Drop),
            Standing::Drop(_) | Standing::Absent | Standing::Stale => Action::Drop,
        }
    }

    fn first(&mut self, packet: &Packet, hook: Hook, answered: bool) -> Action {
        let mut flow = packet.keys.forward;
        let mut judgement = self.judge(&flow);
        let midstream = flow.proto == proto::TCP && !packet.opens_connection();
        if midstream && judgement.allows() {
            let other = self.judge(&packet.keys.reverse);
            if !other.allows() {
                (flow, judgement) = (packet.keys.reverse, other);
            }
        }
        let ends = (self.end(&flow.src), self.end(&flow.dst));
        let mut entry = CtValue::default();
        let at = (self.revision, self.now);
        let admission = conntrack::open(&mut entry, packet, ends, judgement, Sender::Network, at);
        if hook == Hook::ToWorkload && admission == Admission::Steer {
            return Action::Drop;
        }
        if answered && matches!(admission, Admission::Drop(_)) {
            return Action::Drop;
        }
        self.ct.insert(flow, entry);
        match admission {
            Admission::Pass => Action::Pass,
            Admission::Drop(_) => Action::Drop,
            Admission::Steer => {
                self.sockets.insert(flow);
                Action::ToProxy
            }
        }
    }
}

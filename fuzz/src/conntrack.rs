//! Packets, policy changes, evictions and time, in any order: no packet passes without a policy that
//! allows its flow now, and no answer without a question.

mod node;

use std::collections::HashMap;

use tektin_abi::{
    conntrack::{
        CLOSING_NS, DATAGRAM_NS, DENIED_NS, ESTABLISHED_NS, Passing, SECOND_NS, SYN_NS, Standing, settled,
        standing,
    },
    judge::Verdict,
    maps::{CtValue, FlowKey, ct_flag, proto, v4_mapped},
    packet::{Kind, Packet, Ports, tcp},
};

use self::node::{Action, Drawn, Node};
use crate::draw::Draw;

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut node =
        Node { tables: Drawn::new(&mut draw), revision: 1, now: SECOND_NS, second: 257, ..Node::default() };
    let mut story = Story::default();
    for _ in 0..64 {
        if draw.is_used_up() {
            break;
        }
        match draw.below(16) {
            0 => {
                node.tables = Drawn::new(&mut draw);
                node.revision += 1;
            }
            1 => {
                node.second = draw.one(&[257, 258]);
                node.revision += 1;
            }
            2 => {
                node.now +=
                    draw.one(&[SECOND_NS, DENIED_NS, CLOSING_NS, DATAGRAM_NS, SYN_NS, ESTABLISHED_NS]) + 1
            }
            3 => {
                let flows: Vec<FlowKey> = node.ct.keys().copied().collect();
                if !flows.is_empty() {
                    // The order of a hash map is no part of the input.
                    let evicted =
                        flows.iter().max_by_key(|flow| (flow.sport, flow.dport, flow.src, flow.dst));
                    node.ct.remove(evicted.expect("one at least"));
                }
            }
            4 => node.sockets.clear(),
            5 => entry_of_any_bits(&mut draw, &node),
            _ => {
                let packet = packet(&mut draw);
                let action = node.send(&packet);
                story.check(&node, &packet, action);
            }
        }
    }
}

fn packet(draw: &mut Draw<'_>) -> Packet {
    let pairs = [[1, 2], [2, 1], [1, 9], [9, 1], [3, 2], [2, 3], [2, 9], [9, 2]];
    let [src, dst] = draw.one(&pairs).map(|last| v4_mapped([10, 0, 0, last]));
    let mut packet = Packet::default();
    packet.keys.forward = FlowKey { src, dst, ..FlowKey::default() };
    let ports = draw.one(&[Ports(4000, 80), Ports(80, 4000), Ports(4000, 81)]);
    let (protocol, kind, ports) = match draw.below(8) {
        0..=4 => (proto::TCP, Kind::Transport, ports),
        5 | 6 => (proto::UDP, Kind::Transport, ports),
        _ if draw.chance(1, 2) => (proto::ICMP, Kind::EchoReply, Ports(7, 0)),
        _ => (proto::ICMP, Kind::EchoRequest, Ports(7, 8)),
    };
    packet.keys.forward.proto = protocol;
    if protocol == proto::TCP {
        const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
        packet.tcp_flags =
            draw.one(&[tcp::SYN, tcp::ACK, SYN_ACK, tcp::SYN, tcp::FIN | tcp::ACK, tcp::RST, 0]);
    }
    packet.resolve(kind, ports);
    packet
}

/// What has happened so far, told by flow as its originator sends it.
#[derive(Default)]
struct Story {
    /// When a packet of the originator last passed while its flow was allowed.
    begun: HashMap<FlowKey, u64>,
}

impl Story {
    fn check(&mut self, node: &Node, packet: &Packet, action: Action) {
        let (forward, reverse) = (packet.keys.forward, packet.keys.reverse);
        let judged = node.judge(&forward);
        let opens = packet.opens_connection();
        match action {
            Action::Drop => {}
            Action::ToProxy => {
                // The proxy holds its ends to the policy in force; it must only have a part in it.
                let known = node.sockets.contains(&forward) || node.sockets.contains(&reverse);
                assert!(known && forward.proto == proto::TCP);
            }
            Action::Pass if node.end(&forward.src).endpoint == 0 && node.end(&forward.dst).endpoint == 0 => {}
            Action::Pass => {
                let answers = reverse.proto != 0 && node.judge(&reverse).allows();
                assert!(judged.allows() || (answers && !opens), "{packet:?} passes against {judged:?}");
                let asked = self.begun.get(&reverse).is_some_and(|at| {
                    forward.proto == proto::TCP || node.now <= at + DATAGRAM_NS + SECOND_NS
                });
                let continues = asked || self.begun.contains_key(&forward);
                // Nobody knows who began it: either may have.
                let adopted = forward.proto == proto::TCP && !opens && judged.allows() && answers;
                if !judged.allows() {
                    assert!(asked || adopted, "an answer to nothing passes: {packet:?}");
                }
                if forward.proto == proto::TCP && !opens {
                    assert!(continues || adopted, "the middle of nothing passes: {packet:?}");
                }
            }
        }
        if action == Action::Pass && (judged.allows() || self.begun.contains_key(&reverse)) {
            self.begun.insert(forward, node.now);
        }
        for flow in [forward, reverse] {
            if let Some(entry) = node.ct.get(&flow) {
                stands_to_reason(node, &flow, entry);
            }
        }
    }
}

/// What the table says of a flow that was judged under this revision.
fn stands_to_reason(node: &Node, flow: &FlowKey, entry: &CtValue) {
    if entry.revision != node.revision || (entry.src_endpoint, entry.dst_endpoint) != ends(node, flow) {
        return;
    }
    let verdict = node.judge(flow).verdict();
    match settled(entry) {
        Standing::Pass => assert_eq!(verdict, Verdict::Allow, "{flow:?}"),
        Standing::Proxied => assert!(!matches!(verdict, Verdict::Deny(_)), "{flow:?}"),
        _ => assert_ne!(entry.flags & ct_flag::DENIED, 0),
    }
}

fn ends(node: &Node, flow: &FlowKey) -> (u32, u32) {
    (node.end(&flow.src).endpoint, node.end(&flow.dst).endpoint)
}

/// An entry that nobody has written: it passes only where it says all that a pass needs.
fn entry_of_any_bits(draw: &mut Draw<'_>, node: &Node) {
    let entry = CtValue {
        expires_ns: u64::from(draw.number()) << draw.below(33),
        revision: draw.one(&[node.revision, 0]),
        flags: draw.octet(),
        layout: draw.below(3) as u8,
        egress_action: draw.octet(),
        ingress_action: draw.octet(),
        egress_rule: draw.number(),
        src_endpoint: draw.one(&[1, 0]),
        dst_endpoint: draw.one(&[2, 0]),
        ..CtValue::default()
    };
    let packet = packet(draw);
    let at = (node.revision, node.now);
    for direction in [tektin_abi::conntrack::Direction::Forward, tektin_abi::conntrack::Direction::Reply] {
        for passing in [Passing::From(1), Passing::To(2), Passing::Elsewhere] {
            match standing(&entry, direction, passing, &packet, at) {
                Standing::Pass | Standing::Proxied => {
                    assert_eq!((entry.layout, entry.revision), (tektin_abi::maps::CT_LAYOUT, node.revision));
                    assert!(entry.expires_ns >= node.now && entry.flags & ct_flag::DENIED == 0);
                }
                Standing::Drop(reason) => {
                    assert!(reason.0 != 0 && entry.flags & ct_flag::DENIED != 0);
                }
                Standing::Absent | Standing::Stale => {}
            }
        }
    }
}

//! What the programs say of what they did: events for the agent, why packets were dropped, counters.

use super::FlowKey;

// --- events: RINGBUF of [`Event`] ---------------------------------------------------------------------------------
// Writer: tc programs. Reader: agent. Full: the event is lost and counted under `metric::EVENT_LOST`.

pub const EVENTS: &str = "events";
/// Octets, a power of two.
pub const EVENTS_SIZE: u32 = 4 << 20;

pub mod event_kind {
    /// First packet of a flow that may pass (or is steered).
    pub const NEW: u8 = 1;
    /// A dropped packet: the first of its flow, then at most one a second a flow.
    pub const DROP: u8 = 2;
    /// A flow judged again, with another outcome, after a policy change.
    pub const CHANGED: u8 = 3;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC ns.
    pub time_ns: u64,
    pub flow: FlowKey,
    pub src_identity: u32,
    pub dst_identity: u32,
    pub src_endpoint: u32,
    pub dst_endpoint: u32,
    pub egress_rule: u32,
    pub ingress_rule: u32,
    pub ifindex: u32,
    /// Octets on the wire, link header included.
    pub len: u32,
    /// `event_kind::*`.
    pub kind: u8,
    /// Of a drop: the `drop` code; else 0.
    pub reason: u8,
    pub egress_action: u8,
    pub ingress_action: u8,
    /// TCP flags octet (RFC 9293 §3.1), 0 for others.
    pub tcp_flags: u8,
    /// `hook::*`.
    pub hook: u8,
    /// ICMP type and code.
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// Source and destination MAC of the frame.
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    /// `Config::revision` under which the flow was judged; 0: dropped before any judgement.
    pub revision: u32,
}

pub mod hook {
    pub const FROM_WORKLOAD: u8 = 1;
    pub const TO_WORKLOAD: u8 = 2;
    pub const FROM_OUTSIDE: u8 = 3;
    pub const SK_LOOKUP: u8 = 4;
}

/// Why a packet was dropped. Also the index into `metrics` (offset 0), so codes stay below 64.
pub mod drop {
    pub const NONE: u8 = 0;
    pub const POLICY_DENY: u8 = 1;
    pub const DEFAULT_DENY: u8 = 2;
    pub const NO_PROXY: u8 = 3;
    pub const PROXIED_NO_SOCKET: u8 = 4;
    pub const NOT_FROM_PROXY: u8 = 5;
    pub const NEEDS_PROXY_MIDSTREAM: u8 = 6;
    pub const SPOOFED_SOURCE_IP: u8 = 7;
    pub const SPOOFED_SOURCE_MAC: u8 = 8;
    pub const SPOOFED_ARP: u8 = 9;
    pub const SPOOFED_ND: u8 = 10;
    pub const INVALID_PACKET: u8 = 11;
    pub const INVALID_DESTINATION: u8 = 12;
    pub const UNSUPPORTED_L3: u8 = 13;
    pub const UNSUPPORTED_L4: u8 = 14;
    pub const FRAGMENT_WITHOUT_FIRST: u8 = 15;
    pub const FRAGMENT_OF_STEERED: u8 = 16;
    pub const UNKNOWN_ENDPOINT: u8 = 17;
    pub const VERDICT_HOLD: u8 = 18;
    pub const MAP_FULL: u8 = 19;
    pub const ASSIGN_FAILED: u8 = 20;
    pub const EXTENSION_HEADERS: u8 = 21;
    pub const COUNT: u8 = 22;
}

// --- metrics: PERCPU_ARRAY of u64 counters --------------------------------------------------------------------------

pub const METRICS: &str = "metrics";
pub const METRICS_MAX: u32 = 96;

pub mod metric {
    // 0..64: packets dropped, by `drop` code.
    pub const FORWARDED: u32 = 64;
    pub const STEERED: u32 = 65;
    pub const NEW_FLOWS: u32 = 66;
    pub const REJUDGED: u32 = 67;
    pub const EVENT_LOST: u32 = 68;
    pub const REPLY_TO_PROXY: u32 = 69;
}

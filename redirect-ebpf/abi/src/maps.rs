//! Map keys, values, names and sizes. One section a map: key, value, writer, reader, eviction. What the
//! programs say of what they did (events, reasons of drops, counters) is in `maps/report.rs`.

mod report;

pub use report::*;

/// Directory below the pin directory. A change of any layout here takes the next number, so that
/// an old agent's pins are never read with new types.
pub const PIN_VERSION: &str = "v1";

/// 16 octets, network order; IPv4 is v4-mapped.
pub type Addr = [u8; 16];

/// Writes an IPv4 address (network order) as a v4-mapped [`Addr`].
#[must_use]
pub const fn v4_mapped(v4: [u8; 4]) -> Addr {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// Numeric identities that have a fixed meaning (Cilium's reserved numbers).
pub mod identity {
    pub const UNKNOWN: u32 = 0;
    pub const HOST: u32 = 1;
    pub const WORLD: u32 = 2;
    pub const UNMANAGED: u32 = 3;
    pub const HEALTH: u32 = 4;
    pub const INIT: u32 = 5;
    pub const REMOTE_NODE: u32 = 6;
    pub const KUBE_APISERVER: u32 = 7;
    pub const INGRESS: u32 = 8;
    pub const WORLD_IPV4: u32 = 9;
    pub const WORLD_IPV6: u32 = 10;
    /// First identity given to a set of workload labels; the last is 65535.
    pub const CLUSTER_MIN: u32 = 256;
    pub const CLUSTER_MAX: u32 = 65535;
    /// Set in identities of CIDR prefixes and FQDNs, which only this node knows.
    pub const LOCAL_SCOPE: u32 = 1 << 24;
}

/// The packet marks. Only bits of `MASK` are Tektin's.
pub mod mark {
    pub const MASK: u32 = 0xf00;
    /// Set by tc on a packet that a local proxy socket shall receive.
    pub const TO_PROXY: u32 = 0x200;
    /// `SO_MARK` of every proxy socket. Believed only together with a host socket.
    pub const FROM_PROXY: u32 = 0x300;
    /// `SO_MARK` of a host process's socket whose connection the proxy shall receive.
    pub const HOST_TO_PROXY: u32 = 0x400;
}

/// IP protocol numbers (IANA).
pub mod proto {
    /// In policy keys only: every protocol.
    pub const ANY: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

// --- ipcache: LPM trie, prefix -> identity ------------------------------------------------------
// Writer: agent. Readers: all tc programs, sk_lookup, cgroup connect. Never evicts; a full map is
// an error that the agent reports, and the address keeps the identity of its covering prefix.

pub const IPCACHE: &str = "ipcache";
pub const IPCACHE_MAX: u32 = 262_144;

/// `prefix_len` counts the bits of `addr`: an IPv4 prefix /n is 96 + n.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpcacheKey {
    pub prefix_len: u32,
    pub addr: Addr,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpcacheValue {
    pub identity: u32,
    /// Id of the endpoint on this node that owns the address; 0 where none does.
    pub endpoint: u32,
    /// `IPCACHE_*` bits.
    pub flags: u32,
    pub _pad: u32,
    /// Node behind which the address lives (overlay); zero: none.
    pub tunnel: Addr,
}

// --- endpoints: hash, ifindex of the host-side veth -> endpoint ------------------------------------
// Writer: agent. Reader: from_workload, to_workload. A veth without an entry: every packet dropped.

pub const ENDPOINTS: &str = "endpoints";
pub const ENDPOINTS_MAX: u32 = 16_384;

/// Aligned so that the programs compare its addresses by words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointValue {
    /// 1..ENDPOINTS_MAX; also the index into `policy_root`.
    pub id: u32,
    pub identity: u32,
    /// v4-mapped; zero: the workload has no IPv4 address.
    pub ipv4: Addr,
    /// Zero: the workload has no IPv6 address.
    pub ipv6: Addr,
    /// The workload's own MAC address.
    pub mac: [u8; 6],
    pub _pad: [u8; 2],
}

// --- devices: array, endpoint id -> where packets to it are handed over ---------------------------------
// Writer: agent. Reader: from_workload. A zero value (so it begins): nothing is handed over to that
// endpoint, the node's IP stack forwards as ever.

pub const DEVICES: &str = "devices";

#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceValue {
    /// The host-side veth; 0: none.
    pub ifindex: u32,
    /// Its MTU: octets of an IP packet.
    pub mtu: u32,
    /// The endpoint's own addresses, as in [`EndpointValue`]: a packet to another one is not for it.
    pub ipv4: Addr,
    pub ipv6: Addr,
    /// The workload's MAC address.
    pub mac: [u8; 6],
    /// The host-side veth's.
    pub host_mac: [u8; 6],
    pub _pad: [u8; 4],
}

// --- policy_root: array, endpoint id -> the two policies in force ------------------------------------
// Writer: agent. Readers: tc programs, sk_lookup. One aligned 8-byte store switches an endpoint from
// its old policy to its new one: no packet sees neither.

pub const POLICY_ROOT: &str = "policy_root";

#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyRoot {
    /// Policy id for packets to the endpoint; 0: no policy selects it, everything may enter.
    pub ingress: u32,
    /// Policy id for packets from the endpoint; 0: everything may leave.
    pub egress: u32,
}

// --- peer_class: hash, (policy, peer identity) -> class -------------------------------------------------
// Writer: agent. Reader: tc programs. Peers that a policy treats alike share a class; a peer without
// an entry is of class 0. A full map is an error at apply: the old policy stays in force.

pub const PEER_CLASS: &str = "peer_class";
pub const PEER_CLASS_MAX: u32 = 1 << 20;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerClassKey {
    pub policy: u32,
    pub identity: u32,
}
/// Value of `peer_class`.
pub type PeerClass = u32;

// --- policy: LPM trie, (policy, class, protocol, port prefix) -> verdict --------------------------------
// Writer: agent. Reader: tc programs. Precedence (deny, redirect, allow, width) is resolved by the
// policy engine before entries are written: the longest match is the answer, no match is a denial.

pub const POLICY: &str = "policy";
pub const POLICY_MAX: u32 = 1 << 19;

/// `prefix_len` counts bits after itself: 64 = any protocol, 80 = one protocol and any port,
/// 80 + n = n leading bits of the port. For ICMP and ICMPv6 the port is the type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PolicyKey {
    pub prefix_len: u32,
    /// Big endian, as an LPM trie compares from the first octet.
    pub policy_be: [u8; 4],
    /// Big endian.
    pub class_be: [u8; 4],
    pub proto: u8,
    /// Always 0.
    pub _pad: u8,
    /// Big endian.
    pub port_be: [u8; 2],
}

pub mod prefix {
    pub const ANY_PROTO: u32 = 64;
    pub const ANY_PORT: u32 = 80;
    pub const FULL: u32 = 96;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyValue {
    /// `action::*`.
    pub action: u8,
    pub _pad: [u8; 3],
    /// The deciding rule: key of the agent's rule table. 0: default deny.
    pub rule: u32,
}

pub mod action {
    pub const DENY: u8 = 0;
    pub const ALLOW: u8 = 1;
    /// To the proxy: requests are judged one by one.
    pub const REDIRECT: u8 = 2;
    /// In events and conntrack only: that end is no policed endpoint, or no policy selects it.
    pub const NONE: u8 = 3;
}

// --- ct: LRU hash, flow -> connection ---------------------------------------------------------------------
// Writers and readers: tc programs; the agent lists it. A full map evicts the least recently used
// flow, whose next packet is judged as a first one.

pub const CT: &str = "ct";
pub const CT_MAX: u32 = 262_144;

/// A flow as its originator sends it. For ICMP echo `sport` is the identifier and `dport` 0; for
/// other ICMP `sport` is 0 and `dport` the type (256 for type 0, so that it never reads as an echo).
///
/// Aligned so that the programs copy it by words; its 40 octets are the same without.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub src: Addr,
    pub dst: Addr,
    /// Host byte order.
    pub sport: u16,
    /// Host byte order.
    pub dport: u16,
    pub proto: u8,
    pub _pad: [u8; 3],
}

impl FlowKey {
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
            _pad: [0; 3],
        }
    }
}

pub mod ct_flag {
    /// A proxy stands between the ends: packets go to its sockets or nowhere.
    pub const PROXIED: u8 = 1;
    /// The last judgement was a denial; kept so that a denied flow costs one lookup a packet and
    /// one event a second.
    pub const DENIED: u8 = 2;
    pub const REPLY_SEEN: u8 = 4;
    pub const FIN_ORIGINATOR: u8 = 8;
    pub const FIN_RESPONDER: u8 = 16;
    pub const CLOSING: u8 = 32;
    /// Opened by a socket of the local proxy (its upstream side, on a port of its own).
    pub const FROM_PROXY: u8 = 64;
    /// Begun by a workload whose first packet could be handed over to the other one: so are the rest,
    /// of both ends. Flows that the node's stack has seen from their start (it may translate their
    /// addresses) stay there.
    pub const HANDED_OVER: u8 = 128;
}

pub const CT_LAYOUT: u8 = 1;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtValue {
    /// CLOCK_MONOTONIC ns (bpf_ktime_get_ns) after which the entry counts as absent.
    pub expires_ns: u64,
    /// CLOCK_MONOTONIC ns of the last event sent for this flow.
    pub reported_ns: u64,
    pub src_identity: u32,
    pub dst_identity: u32,
    /// Local endpoint ids, 0: not on this node.
    pub src_endpoint: u32,
    pub dst_endpoint: u32,
    pub egress_rule: u32,
    pub ingress_rule: u32,
    /// `Config::revision` under which the flow was judged; another one: judge again.
    pub revision: u32,
    /// `ct_flag::*`.
    pub flags: u8,
    /// `CT_LAYOUT`.
    pub layout: u8,
    /// `action::*` of each end.
    pub egress_action: u8,
    pub ingress_action: u8,
    /// Room for the in-band verdict: SYN options, windows, sequence state of both sides.
    pub _reserved: [u64; 5],
}

// --- fragments: LRU hash, datagram -> ports of its first fragment ---------------------------------------------

pub const FRAGMENTS: &str = "fragments";
pub const FRAGMENTS_MAX: u32 = 8_192;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    pub src: Addr,
    pub dst: Addr,
    /// Identification; IPv4's 16 bits zero-extended.
    pub id: u32,
    pub proto: u8,
    pub _pad: [u8; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentValue {
    /// `packet::Ports` of the first fragment: source port, or for ICMP echo the identifier.
    pub sport: u16,
    /// Destination port, or for ICMP the type.
    pub dport: u16,
    /// `packet::Kind` of the first fragment.
    pub kind: u8,
    /// Transport protocol (behind an IPv6 fragment header there may be other headers first).
    pub proto: u8,
    pub _pad: [u8; 2],
    /// A later fragment after this time is dropped.
    pub expires_ns: u64,
}

// --- throttle: LRU hash, dropped flow -> time of its last event ---------------------------------------------
// Writer and reader: tc programs, for drops that leave no `ct` entry (spoofed or malformed packets
// must not write into a flow that may be somebody else's).

pub const THROTTLE: &str = "throttle";
pub const THROTTLE_MAX: u32 = 8_192;

/// Value: CLOCK_MONOTONIC ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThrottleKey {
    pub flow: FlowKey,
    pub ifindex: u32,
    /// `drop` code.
    pub reason: u8,
    pub _pad: [u8; 3],
}

// --- steered: LRU hash, flow -> why it was steered ------------------------------------------------------------
// Writer: tc programs and sk_lookup, when they hand a connection to the proxy. Reader: the proxy,
// once, at accept. No entry: the proxy resets the connection.

pub const STEERED: &str = "steered";
pub const STEERED_MAX: u32 = 131_072;

/// Key: [`FlowKey`] of the client's SYN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeredValue {
    pub src_identity: u32,
    pub dst_identity: u32,
    /// Endpoint whose egress policy holds, 0: none on this node.
    pub src_endpoint: u32,
    /// Endpoint whose ingress policy holds, 0: none on this node.
    pub dst_endpoint: u32,
    pub egress_rule: u32,
    pub ingress_rule: u32,
    /// `action::*` of each end at steering time.
    pub egress_action: u8,
    pub ingress_action: u8,
    pub _pad: [u8; 2],
    pub revision: u32,
}

// --- listeners: SOCKMAP, slot -> the proxy's listening socket --------------------------------------------------
// Writer: the proxy. Reader: tc programs, sk_lookup. IPv4 thread i: slot i; IPv6: LISTENERS_V6 + i.
// A closed socket leaves the map by itself. An empty slot: the SYN is dropped.

pub const LISTENERS: &str = "listeners";
pub const LISTENERS_MAX: u32 = 64;
pub const LISTENERS_V6: u32 = 32;

// --- verdicts: LRU hash, identity pair and port -> what the proxy decided ---------------------------------------
// Writer: the proxy (totals, a few times a second). Readers: agent, `tektin map get verdicts`, and
// the tc programs, which drop new connections of a pair until `drop_until_ns`.

pub const VERDICTS: &str = "verdicts";
pub const VERDICTS_MAX: u32 = 65_536;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VerdictKey {
    pub src_identity: u32,
    pub dst_identity: u32,
    /// Host byte order; destination port.
    pub dport: u16,
    pub proto: u8,
    pub _pad: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerdictValue {
    /// Requests allowed and denied since the entry was made.
    pub allowed: u64,
    pub denied: u64,
    /// CLOCK_MONOTONIC ns; 0: never.
    pub last_denied_ns: u64,
    /// CLOCK_MONOTONIC ns; 0: no hold. New connections of the pair are dropped until then.
    pub drop_until_ns: u64,
}

// --- config: array of one ----------------------------------------------------------------------------------------

pub const CONFIG: &str = "config";

#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Raised after each change of policy or ipcache: flows judged under another one are judged again.
    pub revision: u32,
    /// How many IPv4 (and as many IPv6) listener slots are in use: threads of the proxy.
    pub listeners: u32,
    /// First 8 octets are the cookie of the node's network namespace (host-process programs check it).
    pub netns_cookie: u64,
}

// --- KERNEL: read-only data of the programs --------------------------------------------------------------------------
// Writer: the loader, before it loads them. Each 1 where the kernel has it, else 0.

/// Name of the variable.
pub const KERNEL: &str = "KERNEL";

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelFeatures {
    /// bpf_redirect_peer (5.10).
    pub redirect_peer: u8,
    /// bpf_ktime_get_coarse_ns (5.11).
    pub coarse_clock: u8,
}

#[cfg(feature = "user")]
mod pod {
    use super::*;
    macro_rules! pod { ($($t:ty),*) => { $(
        // SAFETY: repr(C), Copy, padding explicit, valid for every bit pattern.
        unsafe impl aya::Pod for $t {}
    )* } }
    pod!(
        IpcacheKey,
        IpcacheValue,
        EndpointValue,
        DeviceValue,
        PolicyRoot,
        PeerClassKey,
        PolicyKey,
        PolicyValue,
        FlowKey,
        CtValue,
        FragmentKey,
        FragmentValue,
        SteeredValue,
        VerdictKey,
        VerdictValue,
        Config,
        KernelFeatures,
        Event,
        ThrottleKey
    );
}

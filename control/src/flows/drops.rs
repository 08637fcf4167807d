//! Words for the kernel's drop codes.

use tektin_abi::maps::drop;

/// Name in counters, sentence in records; code 0 and unknown codes have none.
const REASONS: [(u8, &str, &str); 21] = [
    (drop::POLICY_DENY, "policy_deny", "denied by policy"),
    (drop::DEFAULT_DENY, "default_deny", "no rule allows it"),
    (drop::NO_PROXY, "no_proxy", "needs the proxy, which is not running"),
    (drop::PROXIED_NO_SOCKET, "proxied_no_socket", "belongs to a proxied connection that has no socket"),
    (drop::NOT_FROM_PROXY, "not_from_proxy", "must come through the proxy and did not"),
    (
        drop::NEEDS_PROXY_MIDSTREAM,
        "needs_proxy_midstream",
        "now needs the proxy but was not proxied from its start",
    ),
    (drop::SPOOFED_SOURCE_IP, "spoofed_source_ip", "source address is not the workload's own"),
    (drop::SPOOFED_SOURCE_MAC, "spoofed_source_mac", "source MAC is not the workload's own"),
    (drop::SPOOFED_ARP, "spoofed_arp", "ARP for an address that is not the workload's own"),
    (drop::SPOOFED_ND, "spoofed_nd", "neighbour discovery for an address that is not the workload's own"),
    (drop::INVALID_PACKET, "invalid_packet", "malformed packet"),
    (drop::INVALID_DESTINATION, "invalid_destination", "destination that no workload may address"),
    (drop::UNSUPPORTED_L3, "unsupported_l3", "unsupported network protocol"),
    (drop::UNSUPPORTED_L4, "unsupported_l4", "unsupported transport protocol"),
    (drop::FRAGMENT_WITHOUT_FIRST, "fragment_without_first", "fragment whose first one was not seen"),
    (drop::FRAGMENT_OF_STEERED, "fragment_of_steered", "fragment of a flow that needs the proxy"),
    (drop::UNKNOWN_ENDPOINT, "unknown_endpoint", "device without an endpoint"),
    (drop::VERDICT_HOLD, "verdict_hold", "held back after denials"),
    (drop::MAP_FULL, "map_full", "a kernel table is full"),
    (drop::ASSIGN_FAILED, "assign_failed", "could not be handed to the proxy"),
    (drop::EXTENSION_HEADERS, "extension_headers", "too many or forbidden IPv6 extension headers"),
];

/// The sentence for a record.
#[must_use]
pub fn text(code: u8) -> String {
    REASONS
        .iter()
        .find(|reason| reason.0 == code)
        .map_or_else(|| format!("drop code {code}"), |reason| reason.2.to_owned())
}

/// The name of a counter (`drop_` and this).
#[must_use]
pub fn counter_name(code: u8) -> Option<&'static str> {
    REASONS.iter().find(|reason| reason.0 == code).map(|reason| reason.1)
}

/// Whether the policies had been asked before a packet was dropped for this reason; for others the
/// event's actions mean nothing.
#[must_use]
pub fn policy_was_asked(code: u8) -> bool {
    matches!(
        code,
        drop::NONE
            | drop::POLICY_DENY
            | drop::DEFAULT_DENY
            | drop::NO_PROXY
            | drop::PROXIED_NO_SOCKET
            | drop::NOT_FROM_PROXY
            | drop::NEEDS_PROXY_MIDSTREAM
            | drop::FRAGMENT_OF_STEERED
            | drop::VERDICT_HOLD
            | drop::ASSIGN_FAILED
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_words() {
        for code in 1..drop::COUNT {
            assert_eq!(REASONS.iter().filter(|reason| reason.0 == code).count(), 1, "code {code}");
            assert!(!text(code).starts_with("drop code"));
        }
        assert_eq!(text(60), "drop code 60");
        assert_eq!(counter_name(drop::SPOOFED_ND), Some("spoofed_nd"));
        assert_eq!(counter_name(drop::NONE), None);
    }
}

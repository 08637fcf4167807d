//! Prefixes in a policy, one a line: accepted where the standard library reads address and length
//! and the text is the usual one, and then exactly the addresses whose first bits are the same match.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use policy_engine::{
    documents::{Parsed, parse_value},
    identity::Identity,
    model::{Peer, Peers},
};
use serde_json::json;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines().take(4) {
        let document = json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"endpointSelector": {}, "egress": [{"toCIDR": [line]}]},
        });
        let peers = match parse_value(&document, 1).pop() {
            Some(Parsed::Policy(document)) => document.specs[0].egress[0].peers.clone(),
            Some(Parsed::Invalid(_)) => return assert_eq!(plainly(line), None, "{line:?}"),
            other => panic!("{other:?}"),
        };
        let (address, length) = plainly(line).unwrap_or_else(|| panic!("{line:?} is accepted"));
        let Peers::OneOf(peers) = peers else { panic!("everybody") };
        let [Peer::Cidr { net, except }] = peers.as_slice() else { panic!("{peers:?}") };
        assert!(except.is_empty() && net.prefix_len() == length && net.trunc() == *net);
        for bit in [0, 7, 8, 23, 31, 63, 127] {
            let other = flipped(address, bit);
            let identity = Identity::for_prefix(1 << 24, IpNet::from(other), BTreeSet::new());
            assert_eq!(peers[0].matches(&identity), bit >= u32::from(length) || other == address, "{bit}");
        }
    }
}

fn plainly(line: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = line.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let number: u8 = length.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (number.to_string() == length && number <= most && !mapped).then_some((address, number))
}

/// The address with one bit changed, or itself where it has no such bit.
fn flipped(address: IpAddr, bit: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) if bit < 32 => IpAddr::from((u32::from(v4) ^ 1 << (31 - bit)).to_be_bytes()),
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) ^ 1 << (127 - bit)).to_be_bytes()),
    }
}

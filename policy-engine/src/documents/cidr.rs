//! CIDR prefixes and blocks with exceptions.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    cursor::{At, Findings},
    selector::{self, Dialect},
};
use crate::{model::Peer, names};

/// Reads a prefix and masks its host bits. The reason of an error follows the field's name.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let Some((address, length)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => format!("is an address; write {:?}", IpNet::from(address).to_string()),
            Err(_) => format!("{text:?} is no CIDR; write ADDRESS/LENGTH, such as \"10.0.0.0/8\""),
        });
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!("{address:?} is no IPv4 or IPv6 address"));
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(format!("is an IPv4 address in IPv6 clothes; write the prefix with {v4}"));
    }
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    let digits = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let bits = length.parse::<u8>().ok().filter(|bits| digits && *bits <= most);
    let Some(net) = bits.and_then(|bits| IpNet::new(address, bits).ok()) else {
        return Err(format!("{length:?} is no prefix length; write a number from 0 to {most}"));
    };
    Ok(net.trunc())
}

pub(super) fn read(at: &At<'_>, f: &mut Findings) -> Option<IpNet> {
    let text = at.string(f)?;
    prefix(text).map_err(|reason| f.problem(&at.path, reason)).ok()
}

/// Whether an exception may be as large as the block that it is cut from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Except {
    Within,
    StrictlyWithin,
}

/// Reads `except`: prefixes inside `net`.
pub(super) fn read_except(list: Vec<At<'_>>, net: IpNet, rule: Except, f: &mut Findings) -> Vec<IpNet> {
    let mut except = Vec::new();
    for item in list {
        let Some(inner) = read(&item, f) else { continue };
        if !net.contains(&inner) {
            f.problem(&item.path, format!("{inner} does not lie within {net}"));
        } else if rule == Except::StrictlyWithin && inner == net {
            f.problem(&item.path, format!("{inner} is all of the block; leave the peer out instead"));
        }
        except.push(inner);
    }
    except
}

/// One item of `fromCIDRSet` or `toCIDRSet`.
pub(super) fn read_set_item(at: &At<'_>, f: &mut Findings) -> Option<Peer> {
    const KINDS: [&str; 3] = ["cidr", "cidrGroupRef", "cidrGroupSelector"];
    let object = at.object(&["cidr", "cidrGroupRef", "cidrGroupSelector", "except"], f)?;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| object.has(kind)).collect();
    if given.len() != 1 {
        let found =
            if given.is_empty() { "none is there".to_owned() } else { given.join(" and ") + " are there" };
        f.problem(
            &at.path,
            format!("takes exactly one of cidr, cidrGroupRef and cidrGroupSelector; {found}"),
        );
        return None;
    }
    let except = object.list("except", f).unwrap_or_default();
    let value = object.get(given[0], f)?;
    if given[0] == "cidr" {
        let net = read(&value, f)?;
        return Some(Peer::Cidr { net, except: read_except(except, net, Except::Within, f) });
    }
    for item in &except {
        read(item, f);
    }
    f.not_enforced(&value.path, "CIDR groups");
    if given[0] == "cidrGroupRef" {
        let name = value.string(f)?;
        if let Err(reason) = names::dns_subdomain(name) {
            f.problem(&value.path, reason);
        }
        return Some(Peer::CidrGroup(name.to_owned()));
    }
    selector::read(&value, Dialect::Cilium, f);
    Some(Peer::CidrGroup(value.value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::prefix;

    #[test]
    fn prefixes() {
        for (text, net) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            assert_eq!(prefix(text).map(|n| n.to_string()), Ok(net.to_owned()));
        }
        for (text, reason) in [
            ("192.168.1.5", "write \"192.168.1.5/32\""),
            ("::1", "write \"::1/128\""),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/08", "no prefix length"),
            ("10.0.0.0/+8", "no prefix length"),
            ("10.0.0.0/", "no prefix length"),
            ("10.0.0.0/255.0.0.0", "no prefix length"),
            ("10.0.0.300/8", "no IPv4 or IPv6 address"),
            ("010.0.0.0/8", "no IPv4 or IPv6 address"),
            ("::ffff:10.0.0.0/104", "write the prefix with 10.0.0.0"),
            ("fe80::1%eth0/64", "no IPv4 or IPv6 address"),
            ("not-a-cidr", "no CIDR"),
            ("", "no CIDR"),
        ] {
            let error = prefix(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

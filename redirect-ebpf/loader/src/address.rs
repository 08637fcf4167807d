//! Between the standard library's addresses and the maps'.

use std::net::{IpAddr, Ipv6Addr};

use tektin_abi::maps::{Addr, IpcacheKey, v4_mapped};

/// The map form of an address: 16 octets, IPv4 v4-mapped.
#[must_use]
pub fn to_addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => v4_mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map form stands for.
#[must_use]
pub fn from_addr(addr: &Addr) -> IpAddr {
    let v6 = Ipv6Addr::from(*addr);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// The ipcache key of `ip/prefix`; `prefix` counts the bits of the family's own addresses. Bits
/// behind the prefix are cleared.
#[must_use]
pub fn ipcache_key(ip: IpAddr, prefix: u8) -> IpcacheKey {
    let prefix_len = match ip {
        IpAddr::V4(_) => 96 + u32::from(prefix.min(32)),
        IpAddr::V6(_) => u32::from(prefix.min(128)),
    };
    let mask = if prefix_len == 0 { 0 } else { u128::MAX << (128 - prefix_len) };
    let addr = (u128::from_be_bytes(to_addr(ip)) & mask).to_be_bytes();
    IpcacheKey { prefix_len, addr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_go_there_and_back() {
        for text in ["10.1.2.3", "0.0.0.0", "fd00::1", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(from_addr(&to_addr(ip)), ip);
        }
    }

    #[test]
    fn ipcache_keys_are_masked() {
        let v4 = ipcache_key("10.1.2.3".parse().unwrap(), 8);
        assert_eq!((v4.prefix_len, from_addr(&v4.addr)), (104, "10.0.0.0".parse().unwrap()));
        let all = ipcache_key("0.0.0.0".parse().unwrap(), 0);
        assert_eq!((all.prefix_len, all.addr), (96, v4_mapped([0; 4])));
        let v6 = ipcache_key("fd00::1".parse().unwrap(), 0);
        assert_eq!((v6.prefix_len, v6.addr), (0, [0; 16]));
    }
}

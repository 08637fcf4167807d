//! Whose address is it? The prefixes that this node knows, written to the kernel's trie as they
//! change.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use tektin_abi::maps::{IpcacheKey, IpcacheValue, identity};
use tektin_loader::{MapError, Maps, from_addr, ipcache_key};

/// Owner of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub identity: u32,
    /// Id of the endpoint of this node that has the address; 0: none.
    pub endpoint: u32,
}

impl Owner {
    pub fn identity(identity: u32) -> Self {
        Self { identity, endpoint: 0 }
    }
}

/// Prefixes and owners; the longest prefix wins.
pub type Prefixes = BTreeMap<IpNet, Owner>;

/// The kernel's trie and what is in it.
pub struct Ipcache {
    maps: Arc<Maps>,
    written: Prefixes,
}

impl Ipcache {
    /// Takes over the pinned trie with the entries of an earlier run.
    pub fn take_over(maps: Arc<Maps>) -> Result<Self, MapError> {
        let mut written = Prefixes::new();
        for (key, value) in maps.ipcache.entries()? {
            match prefix_of(&key) {
                Some(prefix) => {
                    written.insert(prefix, Owner { identity: value.identity, endpoint: value.endpoint });
                }
                // No writer of this version makes such an entry.
                None => {
                    maps.ipcache.remove(&key)?;
                }
            }
        }
        Ok(Self { maps, written })
    }

    /// What is written now.
    pub fn written(&self) -> &Prefixes {
        &self.written
    }

    /// Adds and changes entries so that all of `wanted` is written; removes nothing.
    pub fn add(&mut self, wanted: &Prefixes) -> Result<(), MapError> {
        for (prefix, owner) in wanted {
            if self.written.get(prefix) == Some(owner) {
                continue;
            }
            let value = IpcacheValue {
                identity: owner.identity,
                endpoint: owner.endpoint,
                ..IpcacheValue::default()
            };
            self.maps.ipcache.insert(&key_of(*prefix), &value)?;
            self.written.insert(*prefix, *owner);
        }
        Ok(())
    }

    /// Removes entries.
    pub fn remove(&mut self, prefixes: &[IpNet]) -> Result<(), MapError> {
        for prefix in prefixes {
            if self.written.remove(prefix).is_some() {
                self.maps.ipcache.remove(&key_of(*prefix))?;
            }
        }
        Ok(())
    }
}

/// The two entries that are always there: every address has an identity.
pub fn world() -> Prefixes {
    Prefixes::from([
        (IpNet::V4(ipnet::Ipv4Net::default()), Owner::identity(identity::WORLD_IPV4)),
        (IpNet::V6(ipnet::Ipv6Net::default()), Owner::identity(identity::WORLD_IPV6)),
    ])
}

/// The owner of the longest known prefix that covers all of `net`.
pub fn covering(prefixes: &Prefixes, net: IpNet) -> Option<Owner> {
    let mut shorter = Some(net.trunc());
    while let Some(candidate) = shorter {
        if let Some(owner) = prefixes.get(&candidate) {
            return Some(*owner);
        }
        shorter = candidate.supernet();
    }
    None
}

fn key_of(prefix: IpNet) -> IpcacheKey {
    ipcache_key(prefix.addr(), prefix.prefix_len())
}

/// The inverse of [`key_of`].
fn prefix_of(key: &IpcacheKey) -> Option<IpNet> {
    const V4_OFFSET: u32 = 96;
    match from_addr(&key.addr) {
        IpAddr::V4(v4) if key.prefix_len >= V4_OFFSET => {
            IpNet::new(v4.into(), u8::try_from(key.prefix_len - V4_OFFSET).ok()?).ok()
        }
        // ::/0 and other short prefixes may look like an IPv4 address only if they end in one.
        IpAddr::V4(v4) => IpNet::new(v4.to_ipv6_mapped().into(), u8::try_from(key.prefix_len).ok()?).ok(),
        IpAddr::V6(v6) => IpNet::new(v6.into(), u8::try_from(key.prefix_len).ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(identity: u32) -> Owner {
        Owner::identity(identity)
    }

    #[test]
    fn the_longest_prefix_owns_an_address() {
        let mut prefixes = world();
        prefixes.insert("10.0.0.0/8".parse().unwrap(), owner(100));
        prefixes.insert("10.1.0.0/16".parse().unwrap(), owner(200));
        prefixes.insert("fd00::1/128".parse().unwrap(), owner(1));
        for (address, identity) in [
            ("10.1.2.3", 200),
            ("10.2.2.3", 100),
            ("11.0.0.1", identity::WORLD_IPV4),
            ("fd00::1", 1),
            ("fd00::2", identity::WORLD_IPV6),
        ] {
            assert_eq!(
                covering(&prefixes, IpNet::from(address.parse::<IpAddr>().unwrap())),
                Some(owner(identity)),
                "{address}"
            );
        }
        assert_eq!(covering(&prefixes, "10.1.0.0/12".parse().unwrap()), Some(owner(100)));
    }

    #[test]
    fn keys_and_prefixes_are_inverse() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/16", "fd00::1/128"] {
            let prefix: IpNet = text.parse().unwrap();
            assert_eq!(prefix_of(&key_of(prefix)), Some(prefix), "{text}");
        }
    }
}

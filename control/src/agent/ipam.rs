//! Addresses for workloads, out of this node's own pools. What is in use is known from the
//! endpoints, so nothing can leak; only the place where the search goes on is kept beside them, so
//! that an address that was just given back is the last to be given out again.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Where the search for a free address goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub last4: Option<Ipv4Addr>,
    pub last6: Option<Ipv6Addr>,
}

#[derive(Clone, Debug)]
pub struct Ipam {
    pool4: Ipv4Net,
    pool6: Ipv6Net,
    cursor: Cursor,
    in_use: BTreeSet<IpAddr>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("no address is left in the pool {0}")]
    Exhausted(String),
    #[error("address {0} is in use by another endpoint")]
    InUse(IpAddr),
    #[error("address {0} is the node's own")]
    Node(IpAddr),
    #[error("address {0} cannot be a workload's")]
    Unusable(IpAddr),
}

impl Ipam {
    pub fn new(pool4: Ipv4Net, pool6: Ipv6Net, cursor: Cursor) -> Self {
        Self { pool4, pool6, cursor, in_use: BTreeSet::new() }
    }

    /// The first address of the IPv4 pool: the node's own towards workloads.
    pub fn node4(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.pool4.network().to_bits() + 1)
    }

    /// The first address of the IPv6 pool.
    pub fn node6(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.pool6.network().to_bits() + 1)
    }

    /// To keep beside the endpoints.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes a given address, of the pool or not.
    pub fn take(&mut self, address: IpAddr) -> Result<(), IpamError> {
        if address == self.node4() || address == self.node6() {
            return Err(IpamError::Node(address));
        }
        if self.is_unusable(address) {
            return Err(IpamError::Unusable(address));
        }
        if !self.in_use.insert(address) {
            return Err(IpamError::InUse(address));
        }
        Ok(())
    }

    /// Takes a free IPv4 address: the first after the last one given.
    pub fn take_next4(&mut self) -> Result<Ipv4Addr, IpamError> {
        let first = self.node4().to_bits() + 1;
        let last = self.pool4.broadcast().to_bits() - 1;
        let start = self.cursor.last4.map_or(first, |last| last.to_bits().wrapping_add(1));
        let found = next_free(u128::from(first), u128::from(last), u128::from(start), |number| {
            // The bounds are IPv4 addresses.
            self.in_use.contains(&IpAddr::V4(Ipv4Addr::from_bits(number as u32)))
        });
        let address =
            found.map(|number| Ipv4Addr::from_bits(number as u32)).ok_or_else(|| exhausted(self.pool4))?;
        self.in_use.insert(address.into());
        self.cursor.last4 = Some(address);
        Ok(address)
    }

    /// Takes a free IPv6 address.
    pub fn take_next6(&mut self) -> Result<Ipv6Addr, IpamError> {
        let first = self.node6().to_bits() + 1;
        let last = self.pool6.broadcast().to_bits();
        let start = self.cursor.last6.map_or(first, |last| last.to_bits().wrapping_add(1));
        let found = next_free(first, last, start, |number| {
            self.in_use.contains(&IpAddr::V6(Ipv6Addr::from_bits(number)))
        });
        let address = found.map(Ipv6Addr::from_bits).ok_or_else(|| exhausted(self.pool6))?;
        self.in_use.insert(address.into());
        self.cursor.last6 = Some(address);
        Ok(address)
    }

    pub fn release(&mut self, address: IpAddr) {
        self.in_use.remove(&address);
    }

    fn is_unusable(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                v4.is_unspecified()
                    || v4.is_loopback()
                    || v4.is_multicast()
                    || v4.is_broadcast()
                    || v4.is_link_local()
                    || v4 == self.pool4.network()
                    || v4 == self.pool4.broadcast()
            }
            IpAddr::V6(v6) => {
                v6.is_unspecified()
                    || v6.is_loopback()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    || v6.to_ipv4_mapped().is_some()
                    || v6 == self.pool6.network()
            }
        }
    }
}

fn exhausted(pool: impl ToString) -> IpamError {
    IpamError::Exhausted(pool.to_string())
}

/// The first number from `start` on, around the end of `first..=last`, that is not in use. At most
/// one step more than there are numbers in use.
fn next_free(first: u128, last: u128, start: u128, in_use: impl Fn(u128) -> bool) -> Option<u128> {
    let start = if (first..=last).contains(&start) { start } else { first };
    (start..=last).chain(first..start).find(|number| !in_use(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(cursor: Cursor) -> Ipam {
        Ipam::new("10.0.0.0/29".parse().unwrap(), "fd00::/126".parse().unwrap(), cursor)
    }

    #[test]
    fn addresses_are_given_once_and_the_pool_ends() {
        let mut ipam = ipam(Cursor::default());
        assert_eq!(ipam.node4().to_string(), "10.0.0.1");
        let given: Vec<String> = (0..5).map(|_| ipam.take_next4().unwrap().to_string()).collect();
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(ipam.take_next4(), Err(IpamError::Exhausted("10.0.0.0/29".to_owned())));
        let given: Vec<String> = (0..2).map(|_| ipam.take_next6().unwrap().to_string()).collect();
        assert_eq!(given, ["fd00::2", "fd00::3"]);
        assert!(ipam.take_next6().is_err());
    }

    #[test]
    fn an_address_given_back_is_the_last_to_be_given_again() {
        let mut first_run = ipam(Cursor::default());
        let first = first_run.take_next4().unwrap();
        first_run.release(first.into());
        assert_eq!(first_run.take_next4().unwrap().to_string(), "10.0.0.3");
        // ... also after a restart.
        let mut second_run = ipam(first_run.cursor());
        let given: Vec<String> = (0..5).map(|_| second_run.take_next4().unwrap().to_string()).collect();
        assert_eq!(given, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn a_cursor_outside_the_pool_is_ignored() {
        let mut ipam = ipam(Cursor { last4: Some("192.168.0.9".parse().unwrap()), last6: None });
        assert_eq!(ipam.take_next4().unwrap().to_string(), "10.0.0.2");
    }

    #[test]
    fn a_chosen_address_is_refused_when_somebody_has_it() {
        let mut ipam = ipam(Cursor::default());
        let chosen: IpAddr = "10.0.0.2".parse().unwrap();
        ipam.take(chosen).unwrap();
        assert_eq!(ipam.take(chosen), Err(IpamError::InUse(chosen)));
        assert_eq!(ipam.take_next4().unwrap().to_string(), "10.0.0.3");
        for (address, error) in [
            ("10.0.0.1", IpamError::Node("10.0.0.1".parse().unwrap())),
            ("fd00::1", IpamError::Node("fd00::1".parse().unwrap())),
            ("10.0.0.7", IpamError::Unusable("10.0.0.7".parse().unwrap())),
            ("127.0.0.1", IpamError::Unusable("127.0.0.1".parse().unwrap())),
            ("fe80::5", IpamError::Unusable("fe80::5".parse().unwrap())),
        ] {
            assert_eq!(ipam.take(address.parse().unwrap()), Err(error));
        }
        // An address of the operator's own outside the pool is fine.
        ipam.take("192.0.2.1".parse().unwrap()).unwrap();
    }
}

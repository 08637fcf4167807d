//! Links, addresses, routes, rules and neighbours of one network namespace: the one in which
//! [`Netlink::connect`] was called. Adding what is there and deleting what is gone both succeed, so
//! that every set-up can be run again.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::NeighbourState,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use rtnetlink::{Handle, LinkUnspec};

/// Marks rules and routes as Tektin's (`proto 84` in `ip route`, `ip rule`), for clean-up.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(84);

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket: {0}")]
    Open(std::io::Error),
    #[error("{what}: {source}")]
    Refused { what: String, source: rtnetlink::Error },
}

#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Six octets; `None` for devices without Ethernet addresses.
    pub mac: Option<[u8; 6]>,
    /// `veth`, `dummy`, …; empty for hardware.
    pub kind: String,
    /// What created it wrote down about it.
    pub alias: String,
    pub up: bool,
    /// Octets of an IP packet; 0 where the kernel does not say.
    pub mtu: u32,
    /// Of a veth: its peer's index, in the peer's namespace.
    pub peer: Option<u32>,
}

/// A route in the main table or in one of the node's own.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub destination: IpNet,
    pub device: u32,
    pub kind: Kind,
    /// Source address of packets that the host itself sends.
    pub source: Option<IpAddr>,
    pub table: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The destination is reached directly on the device.
    Link,
    /// By this neighbour, whatever the device's prefixes say.
    Via(IpAddr),
    /// Delivered to this host.
    Local,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace, served by the current runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The raw handle, for requests that only one caller has.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(refused("list devices"))?;
        Ok(messages.iter().map(Link::from).collect())
    }

    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name))
    }

    pub async fn add_link(&self, what: &str, message: LinkMessage) -> Result<(), NetlinkError> {
        self.handle.link().add(message).execute().await.map_err(refused(what))
    }

    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().change(message).execute().await.map_err(refused("set a device up"))
    }

    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        self.handle.link().change(message).execute().await.map_err(refused("name a device's owner"))
    }

    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        absent_is_fine(self.handle.link().del(index).execute().await, "delete a device")
    }

    /// All addresses with the index of their device.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(refused("list addresses"))?;
        Ok(messages.iter().filter_map(|message| Some((message.header.index, address_of(message)?))).collect())
    }

    /// Without duplicate address detection: a routed /128 has nobody to ask.
    pub async fn add_address(&self, device: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(device, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            request.message_mut().attributes.push(AddressAttribute::Flags(flags));
        }
        present_is_fine(request.execute().await, &format!("add address {address}"))
    }

    pub async fn delete_address(&self, device: u32, address: IpNet) -> Result<(), NetlinkError> {
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(refused("list addresses"))?;
        for message in messages {
            if message.header.index == device && address_of(&message) == Some(address) {
                let result = self.handle.address().del(message).execute().await;
                absent_is_fine(result, &format!("delete address {address}"))?;
            }
        }
        Ok(())
    }

    /// Adds a route or replaces the one that leads elsewhere.
    pub async fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route.message()).replace();
        request.execute().await.map_err(refused(format!("add route to {}", route.destination)))
    }

    pub async fn delete_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let result = self.handle.route().del(route.message()).execute().await;
        absent_is_fine(result, &format!("delete route to {}", route.destination))
    }

    /// A neighbour that never has to be asked for.
    pub async fn replace_neighbour(
        &self,
        device: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetlinkError> {
        let request = self
            .handle
            .neighbours()
            .add(device, address)
            .state(NeighbourState::Permanent)
            .link_layer_address(&mac)
            .replace();
        request.execute().await.map_err(refused(format!("add neighbour {address}")))
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            kind: String::new(),
            alias: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            peer: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkInfo(info) => {
                    for item in info {
                        if let LinkInfo::Kind(kind) = item {
                            link.kind = kind.to_string();
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.destination.addr());
        message.header.destination_prefix_length = self.destination.prefix_len();
        message.header.protocol = PROTOCOL;
        message.header.kind = RouteType::Unicast;
        let attributes = &mut message.attributes;
        if self.destination.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(route_address(self.destination.addr())));
        }
        attributes.push(RouteAttribute::Oif(self.device));
        attributes.push(RouteAttribute::Table(self.table));
        if let Some(source) = self.source {
            attributes.push(RouteAttribute::PrefSource(route_address(source)));
        }
        match self.kind {
            Kind::Link => message.header.scope = RouteScope::Link,
            Kind::Via(gateway) => {
                message.attributes.push(RouteAttribute::Gateway(route_address(gateway)));
                message.header.flags |= RouteFlags::Onlink;
            }
            Kind::Local => {
                message.header.kind = RouteType::Local;
                message.header.scope = RouteScope::Host;
            }
        }
        message
    }
}

/// The address of an `RTM_*ADDR` message with its prefix length. IFA_LOCAL is the interface's own
/// where it differs from IFA_ADDRESS (point-to-point).
pub fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(found?, message.header.prefix_len).ok()
}

pub fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

pub fn refused(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let what = what.into();
    move |source| NetlinkError::Refused { what, source }
}

/// The errno of a refused request, positive.
pub fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| -code.get()),
        _ => None,
    }
}

pub fn present_is_fine(result: Result<(), rtnetlink::Error>, what: &str) -> Result<(), NetlinkError> {
    match result {
        Err(error) if errno(&error) == Some(nix::libc::EEXIST) => Ok(()),
        other => other.map_err(refused(what)),
    }
}

pub fn absent_is_fine(result: Result<(), rtnetlink::Error>, what: &str) -> Result<(), NetlinkError> {
    const ABSENT: [i32; 4] =
        [nix::libc::ESRCH, nix::libc::ENODEV, nix::libc::ENOENT, nix::libc::EADDRNOTAVAIL];
    match result {
        Err(error) if errno(&error).is_some_and(|errno| ABSENT.contains(&errno)) => Ok(()),
        other => other.map_err(refused(what)),
    }
}

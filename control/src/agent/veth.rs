//! The wire between node and workload: a veth pair of our own making, or one that was there before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkUnspec, LinkVeth};
use std::os::fd::AsRawFd;

use super::{
    netlink::{Kind, Link, Netlink, NetlinkError, Route},
    netns::{Netns, NetnsError},
    node::{self, NodeAddresses},
};

/// Every workload's IPv4 gateway.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Every workload's IPv6 gateway.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The workload's end of a pair that we made.
pub const WORKLOAD_DEVICE: &str = "eth0";

const TABLE_MAIN: u32 = 254;

#[derive(Debug, thiserror::Error)]
pub enum VethError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("no random MAC address: {0}")]
    Random(std::io::Error),
    #[error("there is no device {0} in the agent's network namespace")]
    NoDevice(String),
    #[error("device {0} is a {1}, not a veth")]
    NotVeth(String, String),
    #[error("the other end of {0} is not in that network namespace")]
    PeerElsewhere(String),
    #[error("the network namespace has a device {WORKLOAD_DEVICE} already; use --veth to adopt it")]
    HasDevice,
}

/// A workload's end of its wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// Makes a pair, both ends down: `name` here, `eth0` in `netns`. `alias` says whose it is.
pub async fn create(
    netlink: &Netlink,
    netns: &Netns,
    name: &str,
    alias: &str,
) -> Result<(Link, [u8; 6]), VethError> {
    let inside = netns.run(|| async { Netlink::connect()?.links().await }).await?;
    if inside.iter().any(|link| link.name == WORKLOAD_DEVICE) {
        return Err(VethError::HasDevice);
    }
    // Addresses of our choice: udev gives veths whose address the kernel chose another one later.
    let (here, there) = (random_mac()?, random_mac()?);
    let peer: LinkMessage = LinkUnspec::new_with_name(WORKLOAD_DEVICE)
        .address(there.to_vec())
        .setns_by_fd(netns.fd().as_raw_fd())
        .build();
    let pair = LinkVeth::new(name, WORKLOAD_DEVICE)
        .address(here.to_vec())
        .append_extra_attribute(LinkAttribute::IfAlias(alias.to_owned()))
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    netlink.add_link(&format!("make veth {name}"), pair).await?;
    let link = netlink.link_by_name(name).await?.ok_or_else(|| VethError::NoDevice(name.to_owned()))?;
    // The alias is no attribute of creation in older kernels.
    netlink.set_alias(link.index, alias).await?;
    Ok((link, there))
}

/// Gives the workload's end its addresses and routes. Its other end is still down, so nothing gets
/// out yet.
pub async fn configure_workload(netns: &Netns, host: [u8; 6], workload: &Workload) -> Result<(), VethError> {
    let workload = workload.clone();
    netns.run(move || async move { configure_inside(host, &workload).await }).await?;
    Ok(())
}

async fn configure_inside(host: [u8; 6], workload: &Workload) -> Result<(), NetlinkError> {
    let netlink = Netlink::connect()?;
    let links = netlink.links().await?;
    for link in links.iter().filter(|link| link.name == "lo") {
        netlink.set_up(link.index).await?;
    }
    let device = links.iter().find(|link| link.name == WORKLOAD_DEVICE).map_or(0, |link| link.index);
    quiet_ipv6(WORKLOAD_DEVICE, if workload.ipv6.is_some() { "0" } else { "1" });
    netlink.set_up(device).await?;
    for (address, gateway) in workload.families() {
        netlink.add_address(device, IpNet::from(address)).await?;
        netlink.replace_neighbour(device, gateway, host).await?;
        let to_gateway = Route {
            destination: IpNet::from(gateway),
            device,
            kind: Kind::Link,
            source: None,
            table: TABLE_MAIN,
        };
        netlink.replace_route(&to_gateway).await?;
        let default = Route {
            destination: everything(address),
            kind: Kind::Via(gateway),
            source: Some(address),
            ..to_gateway
        };
        netlink.replace_route(&default).await?;
    }
    Ok(())
}

/// The host's end of a pair that we made: gateway addresses and permanent neighbours, then up, then
/// the routes.
pub async fn configure_host(
    netlink: &Netlink,
    link: &Link,
    workload: &Workload,
    node: NodeAddresses,
) -> Result<(), VethError> {
    quiet_ipv6(&link.name, if workload.ipv6.is_some() { "0" } else { "1" });
    for (_, gateway) in workload.families() {
        netlink.add_address(link.index, IpNet::from(gateway)).await?;
    }
    netlink.set_up(link.index).await?;
    for (address, _) in workload.families() {
        netlink.replace_neighbour(link.index, address, workload.mac).await?;
    }
    route_to(netlink, link, workload, node).await
}

/// Routes to the workload's addresses.
pub async fn route_to(
    netlink: &Netlink,
    link: &Link,
    workload: &Workload,
    node: NodeAddresses,
) -> Result<(), VethError> {
    for (address, _) in workload.families() {
        netlink.replace_route(&node::workload_route(address, link.index, node)).await?;
    }
    Ok(())
}

/// Takes the routes of an adopted veth back.
pub async fn unroute(
    netlink: &Netlink,
    device: u32,
    workload: &Workload,
    node: NodeAddresses,
) -> Result<(), VethError> {
    for (address, _) in workload.families() {
        netlink.delete_route(&node::workload_route(address, device, node)).await?;
    }
    Ok(())
}

/// Finds the workload's end of a veth that exists, with its MAC and its first address of each family.
pub async fn inspect(netlink: &Netlink, netns: &Netns, name: &str) -> Result<(Link, Workload), VethError> {
    let link = netlink.link_by_name(name).await?.ok_or_else(|| VethError::NoDevice(name.to_owned()))?;
    if link.kind != "veth" {
        return Err(VethError::NotVeth(name.to_owned(), link.kind));
    }
    let (links, addresses) = netns
        .run(|| async {
            let inside = Netlink::connect()?;
            Ok((inside.links().await?, inside.addresses().await?))
        })
        .await?;
    // Both ends must say that the other is theirs: indexes repeat between namespaces.
    let peer = links
        .into_iter()
        .find(|peer| peer.kind == "veth" && Some(peer.index) == link.peer && peer.peer == Some(link.index))
        .ok_or_else(|| VethError::PeerElsewhere(name.to_owned()))?;
    let mac = peer.mac.ok_or_else(|| VethError::PeerElsewhere(name.to_owned()))?;
    let mut workload = Workload { mac, ipv4: None, ipv6: None };
    for (device, address) in addresses {
        match address.addr() {
            IpAddr::V4(v4) if device == peer.index && !v4.is_link_local() => {
                workload.ipv4 = workload.ipv4.or(Some(v4));
            }
            IpAddr::V6(v6) if device == peer.index && !v6.is_unicast_link_local() => {
                workload.ipv6 = workload.ipv6.or(Some(v6));
            }
            _ => {}
        }
    }
    Ok((link, workload))
}

impl Workload {
    /// Each address with its gateway.
    fn families(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + use<> {
        let v4 = self.ipv4.map(|address| (address.into(), GATEWAY4.into()));
        let v6 = self.ipv6.map(|address| (address.into(), GATEWAY6.into()));
        v4.into_iter().chain(v6)
    }
}

/// Settings of a device in the calling thread's namespace, before it goes up. Where IPv6 does not
/// exist there is nothing to quieten.
fn quiet_ipv6(device: &str, disable: &str) {
    for (name, value) in
        [("disable_ipv6", disable), ("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0")]
    {
        if let Err(error) = node::set_sysctl(&format!("net/ipv6/conf/{device}/{name}"), value) {
            tracing::debug!(device, name, %error, "IPv6 setting not written");
        }
    }
}

fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// Locally administered, unicast.
fn random_mac() -> Result<[u8; 6], VethError> {
    use std::io::Read;
    let mut mac = [0; 6];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut mac))
        .map_err(VethError::Random)?;
    mac[0] = (mac[0] & 0xfc) | 0x02;
    Ok(mac)
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The inverse of [`mac_text`].
pub fn mac_from_text(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets?.try_into().ok()
}

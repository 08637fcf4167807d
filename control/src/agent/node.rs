//! What a node needs before its first workload: forwarding, the node's own device, rules and tables
//! for steered packets, and their exemption from connection tracking. Setting up twice is the same
//! as once; [`remove`] takes everything back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteMessage},
};
use rtnetlink::{LinkBridge, LinkDummy};

use super::netlink::{self, Kind, Netlink, NetlinkError, Route};

mod notrack;
mod rules;
mod sysctl;

pub use sysctl::set as set_sysctl;

/// The node's own device.
pub const HOST_DEVICE: &str = "tektin_host";
/// Steered packets: everything is delivered locally.
const TABLE_STEERED: u32 = 2004;
/// Host processes' connections to the proxy: delivered locally, from the node's own address.
const TABLE_HOST: u32 = 2005;
const TABLE_MAIN: u32 = 254;
const LOOPBACK: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("sysctl {name}: {source}")]
    Sysctl { name: String, source: std::io::Error },
    #[error(
        "somebody else's rule uses the packet mark bits 0xf00: {rule}. Tektin marks steered packets \
         there; remove that rule or give its owner other bits"
    )]
    MarkInUse { rule: String },
    #[error("device {HOST_DEVICE} exists and is neither a dummy device nor a bridge")]
    ForeignDevice,
    #[error("nft refused the table of untracked packets: {0}")]
    Nft(String),
}

/// The node's own addresses, first of each pool.
#[derive(Clone, Copy, Debug)]
pub struct NodeAddresses {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// What the set-up found and did, for `status` and the log.
#[derive(Clone, Debug, Default)]
pub struct SetUp {
    pub host_device: u32,
    /// IPv6 is there (not compiled out or switched off).
    pub ipv6: bool,
    /// `name = value` of each sysctl that was changed.
    pub changed_sysctls: Vec<String>,
    /// What works less well than it could, in words.
    pub warnings: Vec<String>,
}

/// Makes the node ready. Nothing is changed where another owner has the mark bits.
pub async fn set_up(netlink: &Netlink, node: NodeAddresses) -> Result<SetUp, NodeError> {
    rules::refuse_foreign_marks(netlink).await?;
    let mut done = SetUp { ipv6: sysctl::has_ipv6(), ..SetUp::default() };
    done.changed_sysctls = sysctl::enable_forwarding(done.ipv6)?;
    if !done.ipv6 {
        done.warnings.push("IPv6 is off in this network namespace: workloads get IPv4 only".to_owned());
    }
    netlink.set_up(LOOPBACK).await?;
    done.host_device = host_device(netlink, node, done.ipv6).await?;
    for address in families(node, done.ipv6) {
        for route in steering_routes(address) {
            netlink.replace_route(&route).await?;
        }
        rules::ensure(netlink, netlink::family(address)).await?;
    }
    if let Some(warning) = notrack::install().await? {
        done.warnings.push(warning);
    }
    Ok(done)
}

/// Takes back what [`set_up`] made, and every other route and rule of Tektin's. What is gone already
/// is fine.
pub async fn remove(netlink: &Netlink) -> Result<(), NodeError> {
    rules::remove(netlink, AddressFamily::Inet).await?;
    rules::remove(netlink, AddressFamily::Inet6).await?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        remove_routes(netlink, family).await?;
    }
    notrack::remove().await?;
    if let Some(link) = netlink.link_by_name(HOST_DEVICE).await? {
        netlink.delete_link(link.index).await?;
    }
    Ok(())
}

fn families(node: NodeAddresses, ipv6: bool) -> Vec<IpAddr> {
    let mut families = vec![IpAddr::V4(node.v4)];
    families.extend(ipv6.then_some(IpAddr::V6(node.v6)));
    families
}

async fn host_device(netlink: &Netlink, node: NodeAddresses, ipv6: bool) -> Result<u32, NodeError> {
    if netlink.link_by_name(HOST_DEVICE).await?.is_none() {
        let what = "make device tektin_host";
        // A bridge without ports is as quiet, where the kernel has no dummy devices.
        if netlink.add_link(what, LinkDummy::new(HOST_DEVICE).build()).await.is_err() {
            netlink.add_link(what, LinkBridge::new(HOST_DEVICE).build()).await?;
        }
    }
    let link = netlink.link_by_name(HOST_DEVICE).await?.ok_or(NodeError::ForeignDevice)?;
    if link.kind != "dummy" && link.kind != "bridge" {
        return Err(NodeError::ForeignDevice);
    }
    if ipv6 {
        sysctl::quiet_ipv6(HOST_DEVICE)?;
    }
    let own: Vec<IpNet> = families(node, ipv6).into_iter().map(IpNet::from).collect();
    for (device, address) in netlink.addresses().await? {
        // An earlier run may have had another pool.
        if device == link.index && !own.contains(&address) {
            netlink.delete_address(device, address).await?;
        }
    }
    for address in own {
        netlink.add_address(link.index, address).await?;
    }
    netlink.set_up(link.index).await?;
    Ok(link.index)
}

/// The two tables, for the family of the node's `address`.
fn steering_routes(address: IpAddr) -> [Route; 2] {
    let everything = match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    };
    let local =
        |table, source| Route { destination: everything, device: LOOPBACK, kind: Kind::Local, source, table };
    [local(TABLE_STEERED, None), local(TABLE_HOST, Some(address))]
}

/// The route to a workload. `node`: the host's own address of that family.
pub fn workload_route(address: IpAddr, device: u32, node: NodeAddresses) -> Route {
    let source = if address.is_ipv4() { IpAddr::V4(node.v4) } else { IpAddr::V6(node.v6) };
    Route {
        destination: IpNet::from(address),
        device,
        kind: Kind::Link,
        source: Some(source),
        table: TABLE_MAIN,
    }
}

async fn remove_routes(netlink: &Netlink, family: AddressFamily) -> Result<(), NodeError> {
    use futures::TryStreamExt;
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    let routes: Vec<RouteMessage> = netlink
        .handle()
        .route()
        .get(filter)
        .execute()
        .try_collect()
        .await
        .map_err(netlink::refused("list routes"))?;
    for route in routes {
        if route.header.protocol == netlink::PROTOCOL && has_device(&route) {
            let result = netlink.handle().route().del(route).execute().await;
            netlink::absent_is_fine(result, "delete a route")?;
        }
    }
    Ok(())
}

fn has_device(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Oif(_)))
}

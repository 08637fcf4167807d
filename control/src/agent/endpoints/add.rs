//! `endpoint add`: device, policy, map entry, and only then the wire goes live.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use tektin_abi::maps::EndpointValue;
use tektin_loader::to_addr;

use super::{Endpoint, check_name, workload_key};
use crate::{
    agent::{
        error::AgentError,
        netns::{self, Netns},
        state::{Change, Member, State},
        veth,
    },
    api,
};

/// Starts a device's alias; what follows is the endpoint's name.
pub const ALIAS: &str = "tektin:";

impl State {
    /// Makes an endpoint. Its policy is in force when this returns; on an error nothing is left.
    pub async fn add_endpoint(&mut self, request: api::EndpointAdd) -> Result<u32, AgentError> {
        self.check(&request)?;
        let netns = Netns::open(&request.netns)?;
        if netns::current().is_ok_and(|own| own == netns.id) {
            return Err(AgentError::Invalid(format!(
                "{} is the agent's own network namespace, not a workload's",
                netns.path.display()
            )));
        }
        // A namespace's number may be another's once it is gone, and then its device is gone too.
        let here = |other: &&Endpoint| other.netns_id == netns.id && other.failure.is_none();
        if let Some(other) = self.endpoints.iter().find(here) {
            return Err(AgentError::conflict(format!(
                "network namespace {} belongs to endpoint {} already",
                netns.path.display(),
                other.full_name()
            )));
        }
        let ipam = self.ipam.clone();
        let mut endpoint = self.draft(&request, &netns).await.inspect_err(|_| self.ipam = ipam)?;
        let id = endpoint.id;
        if let Err(error) = self.wire(&mut endpoint, &netns).await {
            // What went wrong first is what to tell; the rest is in the log.
            let _ = self.unwire(&endpoint).await;
            return Err(error);
        }
        tracing::info!(endpoint = %endpoint.full_name(), id, veth = %endpoint.veth, "endpoint added");
        Ok(id)
    }

    fn check(&self, request: &api::EndpointAdd) -> Result<(), AgentError> {
        check_name("name", &request.name)?;
        check_name("namespace", &request.namespace)?;
        workload_key(&request.namespace, &request.labels, &request.named_ports)?;
        for name in request.named_ports.keys() {
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || name.len() > 15 || !name.chars().all(fine) {
                return Err(AgentError::Invalid(format!(
                    "port name {name:?}: at most 15 letters, digits or '-'"
                )));
            }
        }
        let lower: std::collections::BTreeSet<String> =
            request.named_ports.keys().map(|name| name.to_lowercase()).collect();
        if lower.len() != request.named_ports.len() {
            return Err(AgentError::Invalid("port names differ only by case".to_owned()));
        }
        let taken = |other: &&Endpoint| other.name == request.name && other.namespace == request.namespace;
        match self.endpoints.iter().find(taken) {
            Some(other) => {
                Err(AgentError::conflict(format!("endpoint {} exists already", other.full_name())))
            }
            None => Ok(()),
        }
    }

    /// Number, addresses and, for a veth that exists, what it is.
    async fn draft(&mut self, request: &api::EndpointAdd, netns: &Netns) -> Result<Endpoint, AgentError> {
        let (chosen4, chosen6) = one_of_each_family(&request.ips)?;
        let adopted = match &request.veth {
            Some(name) => {
                if let Some(other) = self.endpoints.iter().find(|other| other.veth == *name) {
                    let owner = other.full_name();
                    return Err(AgentError::conflict(format!("device {name} belongs to endpoint {owner}")));
                }
                Some(veth::inspect(&self.netlink, netns, name).await?)
            }
            None => None,
        };
        let id = self.endpoints.next_id()?;
        let (ipv4, ipv6) = match &adopted {
            Some((_, workload)) => (chosen4.or(workload.ipv4), chosen6.or(workload.ipv6)),
            None => (chosen4, chosen6),
        };
        if ipv6.is_some() && !self.set_up.ipv6 {
            return Err(AgentError::Invalid("IPv6 is off in the agent's network namespace".to_owned()));
        }
        ipv4.map_or(Ok(()), |address| self.ipam.take(address.into()))?;
        ipv6.map_or(Ok(()), |address| self.ipam.take(address.into()))?;
        let mut endpoint = Endpoint {
            id,
            name: request.name.clone(),
            namespace: request.namespace.clone(),
            labels: request.labels.clone(),
            named_ports: request.named_ports.iter().map(|(n, port)| (n.to_lowercase(), *port)).collect(),
            ipv4,
            ipv6,
            mac: String::new(),
            veth: format!("tek{id:x}"),
            ifindex: 0,
            netns: netns.path.clone(),
            netns_id: netns.id,
            adopted: adopted.is_some(),
            leaving: false,
            failure: None,
        };
        match adopted {
            Some((link, workload)) => {
                endpoint.mac = veth::mac_text(workload.mac);
                endpoint.ifindex = link.index;
                endpoint.veth = link.name;
                if ipv4.is_none() && ipv6.is_none() {
                    return Err(AgentError::Invalid(format!(
                        "the workload's end of {} has no address; give one with --ip",
                        endpoint.veth
                    )));
                }
            }
            None => {
                if endpoint.ipv4.is_none() {
                    endpoint.ipv4 = Some(self.ipam.take_next4()?);
                }
                if endpoint.ipv6.is_none() && self.set_up.ipv6 {
                    endpoint.ipv6 = Some(self.ipam.take_next6()?);
                }
            }
        }
        self.refuse_host_addresses(&endpoint)?;
        Ok(endpoint)
    }

    /// An address of this host stays the host's.
    fn refuse_host_addresses(&self, endpoint: &Endpoint) -> Result<(), AgentError> {
        match endpoint.addresses().find(|address| self.host.contains(address)) {
            Some(address) => Err(AgentError::conflict(format!("address {address} is this host's own"))),
            None => Ok(()),
        }
    }

    async fn wire(&mut self, endpoint: &mut Endpoint, netns: &Netns) -> Result<(), AgentError> {
        if endpoint.adopted {
            // It was a device like any other so far.
            self.datapath.detach(&endpoint.veth)?;
            self.outside.remove(&endpoint.ifindex);
        } else {
            let (link, mac) = veth::create(&self.netlink, netns, &endpoint.veth, &endpoint.alias()).await?;
            endpoint.ifindex = link.index;
            endpoint.mac = veth::mac_text(mac);
        }
        // From here on every packet of the device is dropped, until it is in the endpoints map.
        self.datapath.attach_workload(&endpoint.veth)?;
        self.endpoints.insert(endpoint.clone());
        let since = Instant::now();
        self.change(Change::of_endpoint(endpoint.id, Some(endpoint.member()?))).await?;
        tracing::info!(endpoint = %endpoint.full_name(), total_us = since.elapsed().as_micros(), "its policy is in force");
        self.admit(endpoint)?;
        let link = self
            .netlink
            .link_by_name(&endpoint.veth)
            .await?
            .ok_or_else(|| AgentError::System(format!("device {} is gone", endpoint.veth)))?;
        let workload = endpoint.workload();
        if endpoint.adopted {
            veth::route_to(&self.netlink, &link, &workload, self.node).await?;
        } else {
            veth::configure_workload(netns, link.mac.unwrap_or_default(), &workload).await?;
            veth::configure_host(&self.netlink, &link, &workload, self.node).await?;
        }
        self.endpoints.save(self.ipam.cursor())?;
        Ok(())
    }

    /// Lets packets of the endpoint's device be judged as the endpoint's.
    pub fn admit(&self, endpoint: &Endpoint) -> Result<(), AgentError> {
        let identity = self.identity_of.get(&endpoint.id).ok_or_else(|| {
            AgentError::System(format!("endpoint {} has no identity", endpoint.full_name()))
        })?;
        let value = EndpointValue {
            id: endpoint.id,
            identity: *identity,
            ipv4: endpoint.ipv4.map(|v4| to_addr(v4.into())).unwrap_or_default(),
            ipv6: endpoint.ipv6.map(|v6| to_addr(v6.into())).unwrap_or_default(),
            mac: endpoint.mac(),
            _pad: [0; 2],
        };
        // The kernel may use the old entry's memory at once for the next one that is written, while a
        // program still reads it: what is right stays untouched.
        if self.maps.endpoints.get(&endpoint.ifindex)? == Some(value) {
            return Ok(());
        }
        Ok(self.maps.endpoints.insert(&endpoint.ifindex, &value)?)
    }
}

impl Endpoint {
    /// As policy sees it.
    pub fn member(&self) -> Result<Member, AgentError> {
        Ok(Member { key: self.key()?, addresses: self.addresses().collect() })
    }
}

fn one_of_each_family(ips: &[IpAddr]) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), AgentError> {
    let (mut v4, mut v6) = (None, None);
    for ip in ips {
        let before = match ip {
            IpAddr::V4(address) => v4.replace(*address).map(IpAddr::V4),
            IpAddr::V6(address) => v6.replace(*address).map(IpAddr::V6),
        };
        if let Some(before) = before {
            return Err(AgentError::Invalid(format!("two addresses of one family: {before} and {ip}")));
        }
    }
    Ok((v4, v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_of_each_family_may_be_chosen() {
        let ips =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(one_of_each_family(&[]).unwrap(), (None, None));
        let both = one_of_each_family(&ips(&["10.0.0.1", "fd00::1"])).unwrap();
        assert_eq!(both, (Some("10.0.0.1".parse().unwrap()), Some("fd00::1".parse().unwrap())));
        assert!(one_of_each_family(&ips(&["10.0.0.1", "10.0.0.2"])).is_err());
    }
}

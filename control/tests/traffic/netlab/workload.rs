//! Workloads: a namespace that the agent knows as an endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Lab, Namespace};

#[derive(Clone, Debug)]
pub struct Workload {
    pub name: String,
    pub ns: Namespace,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Workload {
    /// Its IPv4 and its IPv6 address.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// The two socket addresses of a port.
    pub fn at(&self, port: u16) -> [SocketAddr; 2] {
        self.addresses().map(|ip| SocketAddr::new(ip, port))
    }
}

impl Lab {
    /// A workload in namespace `default` with the label `app=NAME`.
    pub fn workload(&self, name: &str) -> Workload {
        self.workload_with(name, &["--label", &format!("app={name}")])
    }

    /// A workload with these arguments of `endpoint add`.
    pub fn workload_with(&self, name: &str, args: &[&str]) -> Workload {
        let ns = self.namespace(name);
        self.tektin(&[&["endpoint", "add", name, "--netns", ns.name()], args].concat()).success();
        self.addresses_of(name, ns)
    }

    /// The workload as its own namespace sees it.
    pub fn addresses_of(&self, name: &str, ns: Namespace) -> Workload {
        let shown: serde_json::Value =
            serde_json::from_str(&ns.ip(&["-j", "address", "show", "dev", "eth0"])).expect("JSON from ip");
        let own = |family: &str| {
            shown[0]["addr_info"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|a| a["family"] == family && a["scope"] == "global")
                .and_then(|a| a["local"].as_str())
                .unwrap_or_else(|| panic!("{name} has no {family} address: {shown}"))
                .to_owned()
        };
        Workload {
            name: name.to_owned(),
            v4: own("inet").parse().expect("an IPv4 address"),
            v6: own("inet6").parse().expect("an IPv6 address"),
            ns,
        }
    }
}

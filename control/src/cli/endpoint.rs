//! `tektin endpoint`.

use std::{net::IpAddr, path::Path};

use clap::{Args, Subcommand};
use comfy_table::Cell;

use super::{
    client::{Client, filled},
    error::CliError,
    output::{Out, Tone, cell, or_dash, toned},
};
use crate::api::{Endpoint, EndpointAdd, EndpointState, Enforcement, PortProtocol, route};

/// Workloads of this node
///
/// An endpoint is a workload: a network namespace behind a veth, with addresses, labels and, by its
/// labels, an identity.
#[derive(Args, Debug)]
pub struct EndpointCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    List(List),
    Get(Get),
    Delete(Delete),
}

/// Guard a network namespace
///
/// Makes a veth pair into the namespace (or adopts one that exists), gives it addresses of the
/// node's pools, and puts the policy in force. When the command returns the workload can talk, as
/// far as policy lets it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin endpoint add web --netns web --label app=web
  tektin endpoint add db --netns /proc/4711/ns/net --label app=db --label tier=data --namespace prod
  tektin endpoint add api --netns api --label app=api --ip 10.244.0.9 --named-port http=8080/TCP")]
struct Add {
    /// Its name, unique within its namespace on this node
    name: String,
    /// Its network namespace: a name (as of `ip netns`) or a path
    #[arg(long, value_name = "NAME|PATH")]
    netns: String,
    /// A label; repeatable. Without a source it is a `k8s` label
    #[arg(long = "label", short = 'l', value_name = "[SOURCE:]KEY=VALUE", required = true, value_parser = label)]
    labels: Vec<String>,
    /// The Kubernetes namespace that it counts to
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Its address, one a family; what is not given comes from the pool
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<IpAddr>,
    /// Adopt this host-side veth instead of making a pair
    #[arg(long, value_name = "DEVICE")]
    veth: Option<String>,
    /// A port that policies may name; repeatable
    #[arg(long = "named-port", value_name = "NAME=PORT[/PROTOCOL]", value_parser = named_port)]
    named_ports: Vec<(String, PortProtocol)>,
}

/// All workloads of this node
#[derive(Args, Debug)]
struct List {}

/// One workload with all there is to know
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tektin endpoint get web\n  tektin endpoint get prod/web --output json")]
struct Get {
    /// Name, NAMESPACE/NAME, or number
    name: String,
}

/// Stop guarding a workload and take its devices and addresses away
#[derive(Args, Debug)]
struct Delete {
    /// Name, NAMESPACE/NAME, or number; several are deleted one after the other
    #[arg(required = true)]
    names: Vec<String>,
}

impl EndpointCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        match self.command {
            Command::Add(add) => {
                let request = add.into_request()?;
                let endpoint: Endpoint = client.post(route::ENDPOINTS, &request).await?;
                out.item(&endpoint, fields(&endpoint))
            }
            Command::List(_) => {
                let endpoints: Vec<Endpoint> = client.get(route::ENDPOINTS).await?;
                let columns = [
                    "ID",
                    "NAMESPACE",
                    "NAME",
                    "IDENTITY",
                    "IPV4",
                    "IPV6",
                    "INGRESS",
                    "EGRESS",
                    "STATE",
                    "LABELS",
                ];
                out.list(&endpoints, &columns, "No endpoints.", row)
            }
            Command::Get(get) => {
                let endpoint: Endpoint = client.get(&filled(route::ENDPOINT, &get.name)).await?;
                out.item(&endpoint, fields(&endpoint))
            }
            Command::Delete(delete) => {
                for name in &delete.names {
                    client.delete(&filled(route::ENDPOINT, name)).await?;
                }
                Ok(())
            }
        }
    }
}

impl Add {
    fn into_request(self) -> Result<EndpointAdd, CliError> {
        let netns = if self.netns.contains('/') {
            // The agent has another working directory.
            let path = std::path::absolute(Path::new(&self.netns))
                .map_err(|source| CliError::Read { path: self.netns.clone(), source })?;
            path.to_str().ok_or_else(|| CliError::Usage("--netns is not UTF-8".to_owned()))?.to_owned()
        } else {
            self.netns
        };
        if self.ips.len() > 2 || (self.ips.len() == 2 && self.ips[0].is_ipv4() == self.ips[1].is_ipv4()) {
            return Err(CliError::Usage("--ip may be given once for IPv4 and once for IPv6".to_owned()));
        }
        Ok(EndpointAdd {
            name: self.name,
            netns,
            namespace: self.namespace,
            labels: self.labels,
            ips: self.ips,
            veth: self.veth,
            named_ports: self.named_ports.into_iter().collect(),
        })
    }
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() && !key.ends_with(':') => Ok(text.to_owned()),
        _ => Err("write KEY=VALUE, such as app=web".to_owned()),
    }
}

fn named_port(text: &str) -> Result<(String, PortProtocol), String> {
    let (name, port) = text.split_once('=').ok_or("write NAME=PORT/PROTOCOL, such as http=80/TCP")?;
    if name.is_empty() {
        return Err("the port has no name".to_owned());
    }
    let port = port.parse().map_err(|error: crate::api::PortProtocolError| error.to_string())?;
    Ok((name.to_ascii_lowercase(), port))
}

fn row(endpoint: &Endpoint) -> Vec<Cell> {
    vec![
        cell(endpoint.id),
        cell(&endpoint.namespace),
        cell(&endpoint.name),
        cell(endpoint.identity),
        cell(or_dash(endpoint.ipv4)),
        cell(or_dash(endpoint.ipv6)),
        cell(enforcement(endpoint.policy.ingress)),
        cell(enforcement(endpoint.policy.egress)),
        state(&endpoint.state),
        cell(own_labels(&endpoint.labels)),
    ]
}

fn fields(endpoint: &Endpoint) -> Vec<(&'static str, Cell)> {
    let ports: Vec<_> = endpoint.named_ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
    vec![
        ("Name", cell(&endpoint.name)),
        ("Namespace", cell(&endpoint.namespace)),
        ("ID", cell(endpoint.id)),
        ("Identity", cell(endpoint.identity)),
        ("Labels", cell(endpoint.labels.join("\n"))),
        ("IPv4", cell(or_dash(endpoint.ipv4))),
        ("IPv6", cell(or_dash(endpoint.ipv6))),
        ("MAC", cell(&endpoint.mac)),
        ("Device", cell(format!("{} ({})", endpoint.veth, endpoint.ifindex))),
        ("Netns", cell(&endpoint.netns)),
        ("Named ports", cell(or_dash(Some(ports.join(", ")).filter(|ports| !ports.is_empty())))),
        ("Ingress", cell(enforcement(endpoint.policy.ingress))),
        ("Egress", cell(enforcement(endpoint.policy.egress))),
        (
            "Policies",
            cell(or_dash(Some(endpoint.policy.documents.join("\n")).filter(|text| !text.is_empty()))),
        ),
        ("Revision", cell(endpoint.policy.revision)),
        ("State", state(&endpoint.state)),
    ]
}

fn enforcement(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Open => "open",
        Enforcement::Enforced => "enforced",
    }
}

fn state(state: &EndpointState) -> Cell {
    match state {
        EndpointState::Ready => toned("ready", Tone::Good),
        EndpointState::Failed(reason) => toned(format!("failed: {reason}"), Tone::Bad),
    }
}

/// Without those that repeat the namespace and cluster.
pub fn own_labels(labels: &[String]) -> String {
    let own =
        |label: &&String| !label.starts_with("k8s:io.kubernetes.") && !label.starts_with("k8s:io.cilium.");
    labels
        .iter()
        .filter(own)
        .map(|label| label.strip_prefix("k8s:").unwrap_or(label))
        .collect::<Vec<_>>()
        .join(",")
}

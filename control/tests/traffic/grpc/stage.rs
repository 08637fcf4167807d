//! A server, and clients that its policy tells apart.

use std::{net::SocketAddr, process::Command};

use super::{installed, script};
use crate::{
    netlab::{Lab, workload::Workload},
    policies::cnp,
};

/// Where every server listens.
pub const PORT: u16 = 7000;

pub struct Stage {
    pub lab: Lab,
    pub server: Workload,
    clients: Vec<Workload>,
}

impl Stage {
    /// Each client with the rules for its calls (`http: […]`, `grpc: […]`); with none it never meets the
    /// proxy. The server listens when this returns.
    pub fn new(clients: &[(&str, &str)], start: impl FnOnce(&Lab, &Workload)) -> Self {
        let lab = Lab::new();
        let server = lab.workload("server");
        start(&lab, &server);
        lab.listening(&server.ns, PORT);
        lab.apply(&policy(clients));
        let clients = clients.iter().map(|(name, _)| lab.workload(name)).collect();
        Self { lab, server, clients }
    }

    pub fn client(&self, name: &str) -> &Workload {
        self.clients.iter().find(|client| client.name == name).expect("a client of this name")
    }

    pub fn v4(&self) -> SocketAddr {
        SocketAddr::from((self.server.v4, PORT))
    }

    pub fn v6(&self) -> SocketAddr {
        SocketAddr::from((self.server.v6, PORT))
    }

    /// The L7 records of calls from a client's IPv4 or IPv6 address.
    pub fn records(&self, from: &Workload, verdict: &str) -> Vec<serde_json::Value> {
        let filter = ["observe", "--verdict", verdict, "--last", "20000", "--output", "json"];
        let told = self.lab.tektin(&filter);
        let lines = told.success().stdout.lines();
        let all = lines.map(|line| -> serde_json::Value { serde_json::from_str(line).expect("JSON") });
        all.filter(|one| one["layer"] == "l7" && one["source"]["name"] == *from.name).collect()
    }
}

/// What the server's policy says of each client.
pub fn policy(clients: &[(&str, &str)]) -> String {
    let rule = |(from, rules): &(&str, &str)| {
        let rules = match rules.is_empty() {
            true => String::new(),
            false => format!(", rules: {{{rules}}}"),
        };
        format!(
            "- fromEndpoints: [{{matchLabels: {{app: {from}}}}}]\n  \
             toPorts: [{{ports: [{{port: \"{PORT}\", endPort: {}, protocol: TCP}}]{rules}}}]\n",
            PORT + 1
        )
    };
    cnp("server", "server", &format!("ingress:\n{}", clients.iter().map(rule).collect::<String>()))
}

pub fn start_go(lab: &Lab, server: &Workload) {
    let mut command = server.ns.command(&installed("tools/grpc-interop-server").to_string_lossy());
    command.args(["-port", &PORT.to_string()]);
    lab.background(command);
}

pub fn start_python(lab: &Lab, server: &Workload) {
    start_python_with(lab, server, &[]);
}

/// With further arguments.
pub fn start_python_with(lab: &Lab, server: &Workload, args: &[&str]) {
    let mut command = python(server);
    command.arg(script("interop_server.py")).arg(PORT.to_string()).args(args);
    lab.background(command);
}

/// Python with grpcio, in a workload.
pub fn python(of: &Workload) -> Command {
    of.ns.command(&installed("grpc/venv/bin/python").to_string_lossy())
}

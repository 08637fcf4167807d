//! Documents that the tests write themselves, with little ceremony.

/// A CiliumNetworkPolicy in `default` for the workload `app=APP`; `sections` are the fields of its
/// spec beside the selector, in YAML flow form or as lines without indentation.
pub fn cnp(name: &str, app: &str, sections: &str) -> String {
    let sections: String = sections.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n{sections}"
    )
}

/// Several documents in one text.
pub fn documents(all: &[String]) -> String {
    all.join("---\n")
}

/// `toPorts` with one TCP port and HTTP rules, in flow form.
pub fn http_port(port: u16, rules: &str) -> String {
    format!("toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}], rules: {{http: [{rules}]}}}}]")
}

/// `toPorts` with one port of a protocol.
pub fn port(port: u16, protocol: &str) -> String {
    format!("toPorts: [{{ports: [{{port: \"{port}\", protocol: {protocol}}}]}}]")
}

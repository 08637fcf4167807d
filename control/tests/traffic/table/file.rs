//! The policy test file, as far as a lab needs to understand it. The binary under test reads it on
//! its own; this reader knows no policy.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    policies: Vec<serde_norway::Value>,
    #[serde(default)]
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub endpoints: Vec<Endpoint>,
    pub tests: Vec<Row>,
    #[serde(skip)]
    dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default, rename = "namedPorts")]
    pub named_ports: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub from: String,
    pub to: String,
    /// `80/TCP`, `8/ICMP`.
    pub port: String,
    #[serde(default)]
    pub http: Option<Request>,
    pub expect: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl TestFile {
    /// `None`: the file names published documents, and the folder that has them is not there.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).expect("a policy test file");
        let mut file: Self =
            serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.dir = path.parent().expect("a folder").to_owned();
        let published = file.dir.join("../../../shared/data/policies");
        let needs_them = file.documents().any(|document| document.starts_with(&published));
        (published.exists() || !needs_them).then_some(file)
    }

    fn documents(&self) -> impl Iterator<Item = PathBuf> {
        self.policies.iter().filter_map(|policy| Some(self.dir.join(policy.as_str()?)))
    }

    /// All policies in one text.
    pub fn policies(&self) -> String {
        let text = |policy: &serde_norway::Value| match policy.as_str() {
            Some(path) => fs::read_to_string(self.dir.join(path)).unwrap_or_else(|e| panic!("{path}: {e}")),
            None => serde_norway::to_string(policy).expect("YAML"),
        };
        self.policies.iter().map(text).collect::<Vec<_>>().join("\n---\n")
    }
}

impl Row {
    /// Port (or ICMP type) and protocol in upper case.
    pub fn port(&self) -> (u16, String) {
        let (port, protocol) = self.port.split_once('/').expect("PORT/PROTOCOL");
        (port.parse().expect("a number"), protocol.to_uppercase())
    }
}

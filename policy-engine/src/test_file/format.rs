//! The test file's own syntax.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::TestFileError;
use crate::{
    documents,
    grpc::{self, GrpcCall, Service},
    kafka::KafkaRequest,
    model::Protocol,
};

pub(super) struct TestFile {
    pub(super) policies: Vec<Value>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) dns: BTreeMap<String, Vec<IpAddr>>,
    pub(super) tests: Vec<Test>,
    /// Every text in the file, policies by path aside: IPv6 addresses change what `world` means.
    pub(super) texts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    #[serde(default)]
    policies: Vec<Value>,
    #[serde(default)]
    endpoints: Vec<Value>,
    #[serde(default)]
    namespaces: BTreeMap<String, Value>,
    #[serde(default)]
    dns: BTreeMap<String, Value>,
    tests: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with at least a name")]
pub(super) struct Endpoint {
    pub(super) name: String,
    #[serde(default = "default_namespace")]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ip: Option<IpAddr>,
    /// Name of the Kubernetes service account that the workload runs as.
    #[serde(rename = "serviceAccount")]
    pub(super) service_account: Option<String>,
    #[serde(default, rename = "namedPorts")]
    pub(super) named_ports: BTreeMap<String, Value>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with from, to and port")]
pub(super) struct Test {
    #[serde(default)]
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) port: Value,
    pub(super) http: Option<Http>,
    pub(super) grpc: Option<Grpc>,
    pub(super) kafka: Option<KafkaRequest>,
    pub(super) expect: Option<Expectation>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expectation {
    Allow,
    Deny,
    Redirect,
}

impl Expectation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Redirect => "redirect",
        }
    }
}

/// A request; what is left out is a plain `GET /` without a host.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default = "root")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) host: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// A gRPC call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    pub(super) service: String,
    pub(super) method: String,
    #[serde(default)]
    pub(super) host: String,
    /// Metadata.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

impl Grpc {
    /// The request that a client of this call sends, or the field at fault and why.
    pub(super) fn request(&self) -> Result<Http, (&'static str, String)> {
        let call =
            GrpcCall::new(Some(&self.service), None).map_err(|error| ("service", error.to_string()))?;
        if !matches!(call.service, Service::Named(_)) {
            return Err(("service", format!("{:?} is not one service; a call names one", self.service)));
        }
        match grpc::method(&self.method) {
            Err(error) => return Err(("method", error.to_string())),
            Ok(None) => return Err(("method", "\"*\" is not one method; a call names one".to_owned())),
            Ok(Some(_)) => {}
        }
        let mut headers = self.headers.clone();
        headers.entry("content-type".to_owned()).or_insert_with(|| "application/grpc".to_owned());
        let path = format!("/{}/{}", self.service, self.method);
        Ok(Http { method: "POST".to_owned(), path, host: self.host.clone(), headers })
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

pub(super) fn read(text: &str) -> Result<TestFile, TestFileError> {
    let mut values = documents::read_values(text).into_iter();
    let value = match (values.next(), values.next()) {
        (Some(Ok(raw)), None) => raw.value,
        (Some(Err(error)), _) => {
            return Err(TestFileError::Refused { source_name: "test file".to_owned(), error });
        }
        (None, _) => return Err(TestFileError::format("test file", "is empty")),
        (Some(_), Some(_)) => return Err(TestFileError::format("test file", "holds more than one document")),
    };
    let mut texts = Vec::new();
    collect_texts(&value, &mut texts);
    let sections: Sections = part(&value, || "test file".to_owned())?;
    let endpoints: Vec<Endpoint> = parts(&sections.endpoints, "endpoints")?;
    let mut names = BTreeSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if !names.insert(&endpoint.name) {
            let reason = format!("the name {} stands twice", endpoint.name);
            return Err(TestFileError::format(format!("endpoints[{index}].name"), reason));
        }
    }
    Ok(TestFile {
        tests: parts(&sections.tests, "tests")?,
        endpoints,
        policies: sections.policies,
        namespaces: by_name(&sections.namespaces, "namespaces")?,
        dns: by_name(&sections.dns, "dns")?,
        texts,
    })
}

fn parts<T: DeserializeOwned>(values: &[Value], list: &str) -> Result<Vec<T>, TestFileError> {
    values.iter().enumerate().map(|(index, value)| part(value, || format!("{list}[{index}]"))).collect()
}

fn by_name<T: DeserializeOwned>(
    values: &BTreeMap<String, Value>,
    section: &str,
) -> Result<BTreeMap<String, T>, TestFileError> {
    let entry =
        |(name, value): (&String, &Value)| Ok((name.clone(), part(value, || format!("{section}.{name}"))?));
    values.iter().map(entry).collect()
}

fn part<T: DeserializeOwned>(value: &Value, place: impl FnOnce() -> String) -> Result<T, TestFileError> {
    T::deserialize(value).map_err(|error| TestFileError::format(place(), error.to_string()))
}

pub(super) fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect_texts(field, texts)),
        _ => {}
    }
}

/// `80/TCP`, `80` (TCP), `8/ICMP` (a type), or the bare number.
pub(super) fn port(value: &Value, place: &str) -> Result<(Protocol, u16, String), TestFileError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(TestFileError::format(place, "write 80/TCP")),
    };
    let (number, protocol) = text.split_once('/').unwrap_or((&text, "TCP"));
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        "ICMP" => Protocol::Icmp,
        "ICMPV6" => Protocol::Icmpv6,
        other => {
            let reason = format!("{other} is none of TCP, UDP, SCTP, ICMP, ICMPv6");
            return Err(TestFileError::format(place, reason));
        }
    };
    let most = if matches!(protocol, Protocol::Icmp | Protocol::Icmpv6) { 255 } else { u16::MAX };
    let number = number.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
        let what = if most == 255 { "ICMP type" } else { "port" };
        TestFileError::format(place, format!("{number:?} is no {what}; they go from 0 to {most}"))
    })?;
    Ok((protocol, number, text))
}

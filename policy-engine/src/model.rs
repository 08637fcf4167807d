//! The normal form of a policy document: what parsing produces and evaluation consumes.
//!
//! Everything that a document leaves implicit is explicit here: namespaces are folded into the
//! selectors, host bits of CIDRs are masked, default deny is a boolean for each direction, and nil
//! and empty lists are told apart ([`Peers::Any`] against an empty [`Peers::OneOf`]).

use std::{fmt, sync::Arc};

use ipnet::IpNet;

use crate::{grpc::GrpcCall, labels::LabelKey};

/// Which kind of document a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    CiliumNetworkPolicy,
    CiliumClusterwideNetworkPolicy,
    NetworkPolicy,
}

/// Names a document among all policies. `namespace` is empty for clusterwide ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    pub kind: DocumentKind,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for DocumentId {
    /// `CiliumNetworkPolicy default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DocumentKind::CiliumNetworkPolicy => {
                write!(f, "CiliumNetworkPolicy {}/{}", self.namespace, self.name)
            }
            DocumentKind::CiliumClusterwideNetworkPolicy => {
                write!(f, "CiliumClusterwideNetworkPolicy {}", self.name)
            }
            DocumentKind::NetworkPolicy => write!(f, "NetworkPolicy {}/{}", self.namespace, self.name),
        }
    }
}

/// A place in a document that decided something, e.g. `spec.ingress[0].toPorts[1].rules.http[2]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub document: Arc<DocumentId>,
    pub path: String,
}

impl fmt::Display for Origin {
    /// `CiliumNetworkPolicy default/web spec.ingress[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.document, self.path)
    }
}

/// One parsed document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: Arc<DocumentId>,
    /// One for `spec` and one for each item of `specs`.
    pub specs: Vec<Spec>,
    /// Things that are legal and probably not meant.
    pub warnings: Vec<Note>,
    /// Parts that parse but that no code enforces yet; `policy apply` refuses a document that has any.
    pub not_enforced: Vec<Note>,
}

/// A remark about one place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub path: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub subject: Subject,
    /// Whether this spec switches default deny on, by direction (enableDefaultDeny resolved).
    pub default_deny_ingress: bool,
    pub default_deny_egress: bool,
    /// The spec's own place (`spec`, `specs[1]`).
    pub origin: Origin,
    /// In document order; the allow and deny rules of each direction.
    pub ingress: Vec<Rule>,
    pub ingress_deny: Vec<Rule>,
    pub egress: Vec<Rule>,
    pub egress_deny: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// Workloads (never the host).
    Endpoints(Selector),
    /// Hosts (nodeSelector).
    Nodes(Selector),
}

/// One item of `ingress`, `ingressDeny`, `egress` or `egressDeny`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub origin: Origin,
    pub peers: Peers,
    pub ports: Ports,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Peers {
    /// No peer was named: everybody, known or not.
    Any,
    /// Any of these; an empty list is nobody.
    OneOf(Vec<Peer>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Identities whose labels match: workloads, entities, nodes.
    Labels(Selector),
    /// World addresses inside `net` and outside all of `except` (never workloads, hosts, nodes).
    Cidr { net: IpNet, except: Vec<IpNet> },
    /// World addresses that DNS has shown for a matching name.
    Fqdn(FqdnSelector),
    /// Backends of a Kubernetes service: parsed, matches nobody until services land.
    Service(String),
    /// Prefixes of a CiliumCIDRGroup by name: parsed, matches nobody until they land.
    CidrGroup(String),
}

/// All requirements must hold; none at all selects every identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// `Source::Any` matches the key under every source.
    pub key: LabelKey,
    pub operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FqdnSelector {
    Name(String),
    Pattern(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ports {
    /// No `toPorts` and no `icmps`: all protocols and ports.
    All,
    /// Any of these; an empty list is no port at all.
    OneOf(Vec<PortRule>),
}

/// One item of `toPorts` (with all its `ports`) or of `icmps`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRule {
    pub origin: Origin,
    pub ports: Vec<PortMatch>,
    /// `None`: no L7 rules (an empty `http: []` is none too).
    pub l7: Option<L7>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortMatch {
    pub protocol: Protocol,
    pub port: PortRef,
}

/// `Any` in a document is TCP + UDP + SCTP and is expanded when parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortRef {
    /// Inclusive; 0..=65535 is every port. For ICMP the type.
    Range(u16, u16),
    /// Lower case.
    Named(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum L7 {
    Http(RequestRules),
    Kafka(Vec<KafkaRule>),
    Dns(Vec<FqdnSelector>),
    /// TLS server names of `serverNames`.
    Sni(Vec<String>),
    /// A protocol that Tektin has no parser for (`l7proto`).
    Other(String),
}

/// Rules of `http` and of `grpc`: a request passes if one of either kind matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestRules {
    pub http: Vec<HttpRule>,
    pub grpc: Vec<GrpcRule>,
}

/// All parts that are given must match; none given: any request.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    pub origin: Origin,
    /// Full-match regular expressions (RE2 syntax, case-sensitive).
    pub method: Option<String>,
    /// Matched against the path with its query.
    pub path: Option<String>,
    pub host: Option<String>,
    /// `headers`: the header is there (`None`) or has exactly this value.
    pub headers: Vec<(String, Option<String>)>,
    pub header_matches: Vec<HeaderMatch>,
}

/// Matches gRPC requests alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcRule {
    pub origin: Origin,
    pub call: GrpcCall,
}

/// All parts that are given must match; none given: any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRule {
    pub origin: Origin,
    pub requests: KafkaRequests,
    pub api_version: Option<i16>,
    pub client_id: Option<String>,
    /// Names; a trailing `*` stands for whatever follows.
    pub topic: Option<String>,
    pub groups: Option<Vec<String>>,
    pub transactional_ids: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaRequests {
    Any,
    Produce,
    Consume,
    /// The protocol's number of the request.
    ApiKey(i16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    pub name: String,
    pub value: String,
    pub mismatch: Mismatch,
}

/// What happens to a request whose header differs from a `headerMatches` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// No action given: the rule does not match.
    Deny,
    Log,
    Add,
    Delete,
    Replace,
}

//! Policy documents: what is sent, and what became of it.

use serde::{Deserialize, Serialize};

/// Documents to put in force, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    pub sources: Vec<PolicySource>,
}

/// One text of one or more YAML or JSON documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// What to call the text in errors: a file's name, `standard input`.
    pub name: String,
    pub text: String,
}

/// What a change of policy did. It is in force, in the kernel and in the proxy, when this is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResult {
    pub revision: u32,
    pub documents: Vec<AppliedDocument>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedDocument {
    /// `CiliumNetworkPolicy default/web`.
    pub document: String,
    pub change: Change,
    /// How many of this node's endpoints it selects.
    pub endpoints: usize,
    /// `path: text` of things that are legal and probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// Which documents are meant; what is not given matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDocument {
    pub kind: String,
    /// Empty for clusterwide documents.
    pub namespace: String,
    pub name: String,
    /// Where it came from: a watched file's path, or `api`.
    pub source: String,
    /// Names of this node's endpoints that it selects.
    pub endpoints: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The document as it was given, YAML or JSON.
    pub text: String,
}

//! Rule sets of HTTP and gRPC requests, compiled once however many policies share them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use http::{HeaderName, HeaderValue, header};
use policy_engine::{
    grpc::{GrpcCall, NameError},
    http::{HttpRuleError, HttpRuleSpec, HttpRules},
    model::{HeaderMatch, Mismatch},
};
use prost::Message;

use crate::link_proto;

/// The rules of one piece and the ids to name them by.
pub(super) struct CompiledRules {
    pub(super) rules: HttpRules,
    /// By the index that `rules` answers with.
    pub(super) ids: Vec<u32>,
}

/// Why a rule set cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error(transparent)]
    Http(#[from] HttpRuleError),
    #[error("rule {rule}: header {name} cannot be changed by a rule")]
    FramingHeader { rule: usize, name: String },
    #[error("gRPC rule {rule}: {error}")]
    Grpc { rule: usize, error: NameError },
    #[error("rule {rule}: {name} with that value is no header")]
    NoHeader { rule: usize, name: String },
}

/// Compiled sets that are in use somewhere, by their encoding.
#[derive(Default)]
pub struct RuleCache {
    sets: HashMap<Vec<u8>, Weak<CompiledRules>>,
    /// How many there were after the last look.
    pruned_at: usize,
}

/// So many sets that no policy uses are not worth a look.
const UNUSED: usize = 16;

impl RuleCache {
    pub(super) fn compile(&mut self, piece: &link_proto::Piece) -> Result<Arc<CompiledRules>, RuleError> {
        let (rules, calls) = (&piece.http, &piece.grpc);
        // How many of them are of the first kind tells the two kinds apart.
        let mut key = rules.len().to_be_bytes().to_vec();
        for rule in rules {
            key.extend(rule.encode_length_delimited_to_vec());
        }
        for rule in calls {
            key.extend(rule.encode_length_delimited_to_vec());
        }
        if let Some(known) = self.sets.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.header_matches.iter().try_for_each(|header| check_action(index, header))?;
        }
        let mut specs: Vec<HttpRuleSpec> = rules.iter().map(spec).collect();
        for (index, rule) in calls.iter().enumerate() {
            specs.push(call(rule).map_err(|error| RuleError::Grpc { rule: index, error })?);
        }
        let compiled = Arc::new(CompiledRules {
            rules: HttpRules::compile(&specs)?,
            ids: rules.iter().map(|rule| rule.rule).chain(calls.iter().map(|rule| rule.rule)).collect(),
        });
        self.sets.insert(key, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    /// Drops sets that no policy uses any more, once there may be as many of them as others.
    pub(super) fn prune(&mut self) {
        if self.sets.len() > self.pruned_at * 2 + UNUSED {
            self.sets.retain(|_, set| set.strong_count() > 0);
            self.pruned_at = self.sets.len();
        }
    }
}

/// Rules may change what a request says, not where it ends or where it goes.
fn check_action(rule: usize, header: &link_proto::HeaderMatch) -> Result<(), RuleError> {
    let changes = match header.mismatch() {
        link_proto::Mismatch::Deny | link_proto::Mismatch::Log => return Ok(()),
        link_proto::Mismatch::Add | link_proto::Mismatch::Replace => true,
        link_proto::Mismatch::Delete => false,
    };
    let no_header = || RuleError::NoHeader { rule, name: header.name.clone() };
    let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| no_header())?;
    let framing = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if framing.contains(&name) {
        return Err(RuleError::FramingHeader { rule, name: header.name.clone() });
    }
    if changes {
        HeaderValue::from_str(&header.value).map_err(|_| no_header())?;
    }
    Ok(())
}

fn call(rule: &link_proto::GrpcRule) -> Result<HttpRuleSpec, NameError> {
    let call = GrpcCall::new(Some(&rule.service), rule.method.as_deref())?;
    Ok(HttpRuleSpec { grpc: Some(call), ..HttpRuleSpec::default() })
}

fn spec(rule: &link_proto::HttpRule) -> HttpRuleSpec {
    HttpRuleSpec {
        grpc: None,
        method: rule.method.clone(),
        path: rule.path.clone(),
        host: rule.host.clone(),
        headers: rule.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
        header_matches: rule
            .header_matches
            .iter()
            .map(|header| HeaderMatch {
                name: header.name.clone(),
                value: header.value.clone(),
                mismatch: match header.mismatch() {
                    link_proto::Mismatch::Deny => Mismatch::Deny,
                    link_proto::Mismatch::Log => Mismatch::Log,
                    link_proto::Mismatch::Add => Mismatch::Add,
                    link_proto::Mismatch::Delete => Mismatch::Delete,
                    link_proto::Mismatch::Replace => Mismatch::Replace,
                },
            })
            .collect(),
    }
}

//! Method, host and path patterns of all rules as one automaton.
//!
//! It reads method, 0xFF, host, 0xFF, path. No pattern can match an octet 0xFF (it is in no UTF-8
//! text), so each part of a pattern meets its own part of the request. `^` and `$` inside a pattern
//! hold at the borders of the part.

use std::sync::Arc;

use regex_automata::{
    Anchored, Input, MatchKind, PatternSet,
    dfa::{Automaton as _, StartKind, dense},
    meta,
    nfa::thompson,
    util::{look::LookMatcher, start},
};
use regex_syntax::hir::{Hir, Look};

use super::{HttpRequest, HttpRuleError, HttpRuleSpec};
use crate::regex;

/// Parts are kept apart by this octet.
const SEPARATOR: u8 = 0xff;
/// Largest table, in octets. Beyond it states are made as requests need them.
const DENSE_LIMIT: usize = 2 << 20;
/// Memory that making the table may take.
const DETERMINIZE_LIMIT: usize = 16 << 20;
/// Largest NFA, in octets; a set beyond it is refused.
const NFA_LIMIT: usize = 64 << 20;

pub type Dense = dense::DFA<Vec<u32>>;

#[derive(Clone, Debug)]
pub(super) enum Automaton {
    /// No rules.
    Empty,
    Dense(Arc<Dense>),
    Lazy(meta::Regex),
}

impl Automaton {
    pub(super) fn compile(rules: &[HttpRuleSpec]) -> Result<Self, HttpRuleError> {
        if rules.is_empty() {
            return Ok(Self::Empty);
        }
        let patterns =
            rules.iter().enumerate().map(|(i, rule)| pattern(i, rule)).collect::<Result<Vec<Hir>, _>>()?;
        let too_large = |error: &dyn std::error::Error| HttpRuleError::TooLarge(error.to_string());

        let mut borders = LookMatcher::new();
        borders.set_line_terminator(SEPARATOR);
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(thompson::WhichCaptures::None)
                    .look_matcher(borders)
                    .nfa_size_limit(Some(NFA_LIMIT)),
            )
            .build_many_from_hir(&patterns)
            .map_err(|error| too_large(&error))?;
        let dense = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All)
                    .start_kind(StartKind::Anchored)
                    .dfa_size_limit(Some(DENSE_LIMIT))
                    .determinize_size_limit(Some(DETERMINIZE_LIMIT)),
            )
            .build_from_nfa(&nfa);
        if let Ok(dense) = dense {
            return Ok(Self::Dense(Arc::new(dense)));
        }
        meta::Regex::builder()
            .configure(
                meta::Config::new()
                    .match_kind(MatchKind::All)
                    .utf8_empty(false)
                    .line_terminator(SEPARATOR)
                    .nfa_size_limit(Some(NFA_LIMIT)),
            )
            .build_many_from_hir(&patterns)
            .map(Self::Lazy)
            .map_err(|error| too_large(&error))
    }

    /// Calls `found` with each rule whose patterns match, in no order.
    pub(super) fn for_each_match(&self, request: &HttpRequest<'_>, mut found: impl FnMut(usize)) {
        let parts = [request.method.as_bytes(), request.host.as_bytes(), request.path.as_bytes()];
        match self {
            Self::Empty => {}
            Self::Dense(dfa) => {
                // A table without look-behind has a start state for the beginning of a text.
                let config = start::Config::new().anchored(Anchored::Yes);
                let Ok(mut state) = dfa.start_state(&config) else {
                    return;
                };
                for (index, part) in parts.into_iter().enumerate() {
                    if index > 0 {
                        state = dfa.next_state(state, SEPARATOR);
                    }
                    for octet in part {
                        state = dfa.next_state(state, *octet);
                        if dfa.is_dead_state(state) {
                            return;
                        }
                    }
                }
                state = dfa.next_eoi_state(state);
                if dfa.is_match_state(state) {
                    (0..dfa.match_len(state)).for_each(|i| found(dfa.match_pattern(state, i).as_usize()));
                }
            }
            Self::Lazy(regex) => {
                let text = parts.join(&SEPARATOR);
                let mut matches = PatternSet::new(regex.pattern_len());
                regex.which_overlapping_matches(&Input::new(&text).anchored(Anchored::Yes), &mut matches);
                matches.iter().for_each(|pattern| found(pattern.as_usize()));
            }
        }
    }

    pub(super) fn dense(&self) -> Option<&Dense> {
        match self {
            Self::Dense(dfa) => Some(dfa),
            Self::Empty | Self::Lazy(_) => None,
        }
    }
}

fn pattern(index: usize, rule: &HttpRuleSpec) -> Result<Hir, HttpRuleError> {
    let part = |field: &'static str, pattern: &Option<String>| match pattern {
        None => Ok(regex::anything_but(SEPARATOR)),
        Some(pattern) => match regex::parse(pattern) {
            Ok(hir) => Ok(regex::map_looks(hir, &|look| match look {
                Look::Start => Look::StartLF,
                Look::End => Look::EndLF,
                other => other,
            })),
            Err(reason) => Err(HttpRuleError::Pattern { rule: index, field, reason }),
        },
    };
    let (method, path) = match &rule.grpc {
        None => (rule.method.clone(), rule.path.clone()),
        Some(call) if rule.method.is_none() && rule.path.is_none() => {
            (Some("POST".to_owned()), Some(call.path_pattern()))
        }
        Some(_) => {
            let reason = "stands beside a method or path, which a call has of its own".to_owned();
            return Err(HttpRuleError::Pattern { rule: index, field: "grpc", reason });
        }
    };
    let separator = || Hir::literal([SEPARATOR]);
    Ok(Hir::concat(vec![
        Hir::look(Look::Start),
        part("method", &method)?,
        separator(),
        part("host", &rule.host)?,
        separator(),
        part("path", &path)?,
        Hir::look(Look::End),
    ]))
}

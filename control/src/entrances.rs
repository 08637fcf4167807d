//! Where octets that somebody else has written come in, and what is made of them: for the fuzz targets.

use std::path::PathBuf;

use crate::agent::{endpoints::Endpoints, identities::Identities};
pub use crate::{
    agent::datapath::entries::{class_entries, link_policy},
    api::{
        ApplyRequest, Endpoint, EndpointAdd, ExplainRequest, FlowLine, FlowQuery, PolicySelector,
        PortProtocol, Status,
    },
    cli::style::{Style, printable},
    config::{AgentArgs, AgentConfig},
    flows::{
        compact,
        filter::{Filter, FlowFilter, parse_prefix},
        journal::{Entry, FILES as JOURNAL_FILES, Journal, LostBefore},
        kernel::{self, WallClock},
        proxy,
        record::{Action, FlowRecord, Verdict},
        resolve::{Direction, EndpointName, Resolve},
        table,
    },
    kafka_request::judge as judge_kafka,
    proxy_link::state::State as LinkState,
    rules::RuleTable,
};

/// Reads three files of a state directory, as a starting agent does.
///
/// # Errors
/// What is wrong with the first that is damaged, in words.
pub fn read_state(endpoints: PathBuf, identities: PathBuf, rules: PathBuf) -> Result<(), String> {
    Endpoints::load(endpoints).map_err(|error| error.to_string())?;
    Identities::load(identities).map_err(|error| error.to_string())?;
    RuleTable::load(rules).map(drop).map_err(|error| error.to_string())
}

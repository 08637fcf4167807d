//! Kafka rules, in the form they had while Cilium still knew them.

use serde_json::Value;

use super::cursor::{At, Findings, not_a_word};

/// Names of requests, in the order of their numbers.
const API_KEYS: [&str; 68] = [
    "produce",
    "fetch",
    "offsets",
    "metadata",
    "leaderandisr",
    "stopreplica",
    "updatemetadata",
    "controlledshutdown",
    "offsetcommit",
    "offsetfetch",
    "findcoordinator",
    "joingroup",
    "heartbeat",
    "leavegroup",
    "syncgroup",
    "describegroups",
    "listgroups",
    "saslhandshake",
    "apiversions",
    "createtopics",
    "deletetopics",
    "deleterecords",
    "initproducerid",
    "offsetforleaderepoch",
    "addpartitionstotxn",
    "addoffsetstotxn",
    "endtxn",
    "writetxnmarkers",
    "txnoffsetcommit",
    "describeacls",
    "createacls",
    "deleteacls",
    "describeconfigs",
    "alterconfigs",
    "alterreplicalogdirs",
    "describelogdirs",
    "saslauthenticate",
    "createpartitions",
    "createdelegationtoken",
    "renewdelegationtoken",
    "expiredelegationtoken",
    "describedelegationtoken",
    "deletegroups",
    "electleaders",
    "incrementalalterconfigs",
    "alterpartitionreassignments",
    "listpartitionreassignments",
    "offsetdelete",
    "describeclientquotas",
    "alterclientquotas",
    "describeuserscramcredentials",
    "alteruserscramcredentials",
    "vote",
    "beginquorumepoch",
    "endquorumepoch",
    "describequorum",
    "alterpartition",
    "updatefeatures",
    "envelope",
    "fetchsnapshot",
    "describecluster",
    "describeproducers",
    "brokerregistration",
    "brokerheartbeat",
    "unregisterbroker",
    "describetransactions",
    "listtransactions",
    "allocateproducerids",
];

/// One item of `rules.kafka`; the model keeps it as it stands.
pub(super) fn read(at: &At<'_>, f: &mut Findings) -> Option<Value> {
    let rule = at.object(&["role", "apiKey", "apiVersion", "clientID", "topic"], f)?;
    if let Some(role) = rule.get("role", f)
        && let Some(text) = role.string(f)
        && !["produce", "consume"].contains(&text.to_ascii_lowercase().as_str())
    {
        f.problem(&role.path, not_a_word(text, &["produce", "consume"]));
    }
    if let Some(key) = rule.get("apiKey", f)
        && let Some(text) = key.string(f)
        && !API_KEYS.contains(&text.to_ascii_lowercase().as_str())
    {
        f.problem(&key.path, format!("is no Kafka request: {}", not_a_word(text, &API_KEYS)));
    }
    if rule.has("role") && rule.has("apiKey") {
        f.problem(&rule.path_of("role"), "does not go with apiKey; a role is a set of them");
    }
    if let Some(version) = rule.get("apiVersion", f)
        && let Some(text) = version.string(f)
        && !text.parse::<i16>().is_ok_and(|number| number >= 0)
    {
        f.problem(&version.path, format!("{text:?} is no version; write a number in quotes"));
    }
    rule.string("clientID", f);
    if let Some(topic) = rule.get("topic", f)
        && let Some(text) = topic.string(f)
    {
        let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.len() > 255 || !text.bytes().all(character) {
            f.problem(
                &topic.path,
                format!("{text:?} is no topic: at most 255 letters, digits, '.', '_' or '-'"),
            );
        }
    }
    Some(at.value.clone())
}

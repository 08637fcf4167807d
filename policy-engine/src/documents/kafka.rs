//! Kafka rules, in the form they had while Cilium still knew them; `groups`, `transactionalIds` and the
//! trailing `*` are Tektin's own.

use super::{
    cursor::{At, Findings, Object, not_a_word},
    rule::Place,
};
use crate::model::{KafkaRequests, KafkaRule};

/// Names of requests, in the order of their numbers.
const API_KEYS: [&str; 93] = [
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
    "consumergroupheartbeat",
    "consumergroupdescribe",
    "controllerregistration",
    "gettelemetrysubscriptions",
    "pushtelemetry",
    "assignreplicastodirs",
    "listconfigresources",
    "describetopicpartitions",
    "sharegroupheartbeat",
    "sharegroupdescribe",
    "sharefetch",
    "shareacknowledge",
    "addraftvoter",
    "removeraftvoter",
    "updateraftvoter",
    "initializesharegroupstate",
    "readsharegroupstate",
    "writesharegroupstate",
    "deletesharegroupstate",
    "readsharegroupstatesummary",
    "streamsgroupheartbeat",
    "streamsgroupdescribe",
    "describesharegroupoffsets",
    "altersharegroupoffsets",
    "deletesharegroupoffsets",
];

/// One item of `rules.kafka`.
pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<KafkaRule> {
    let fields = ["role", "apiKey", "apiVersion", "clientID", "topic", "groups", "transactionalIds"];
    let rule = at.object(&fields, f)?;
    let requests = read_requests(&rule, f);
    let mut api_version = None;
    if let Some(version) = rule.get("apiVersion", f)
        && let Some(text) = version.string(f).filter(|text| !text.is_empty())
    {
        api_version = text.parse::<i16>().ok().filter(|number| *number >= 0);
        if api_version.is_none() {
            f.problem(&version.path, format!("{text:?} is no version; write a number in quotes"));
        }
    }
    let client_id = rule.string("clientID", f).filter(|text| !text.is_empty()).map(str::to_owned);
    let topic = rule.get("topic", f).and_then(|topic| read_topic(&topic, f));
    let (groups, transactional_ids) =
        (read_names(&rule, "groups", f), read_names(&rule, "transactionalIds", f));
    let origin = place.origin(&at.path);
    Some(KafkaRule { origin, requests, api_version, client_id, topic, groups, transactional_ids })
}

fn read_requests(rule: &Object<'_>, f: &mut Findings) -> KafkaRequests {
    let mut requests = KafkaRequests::Any;
    if let Some(role) = rule.get("role", f)
        && let Some(text) = role.string(f)
    {
        match text.to_ascii_lowercase().as_str() {
            "produce" => requests = KafkaRequests::Produce,
            "consume" => requests = KafkaRequests::Consume,
            _ => f.problem(&role.path, not_a_word(text, &["produce", "consume"])),
        }
    }
    if let Some(key) = rule.get("apiKey", f)
        && let Some(text) = key.string(f)
    {
        // ListOffsets by its name of today, too.
        let known = |name: &str| {
            name.eq_ignore_ascii_case(text) || name == "offsets" && text.eq_ignore_ascii_case("listoffsets")
        };
        match API_KEYS.iter().position(|name| known(name)) {
            Some(number) => requests = KafkaRequests::ApiKey(number as i16),
            None => {
                f.problem(&key.path, format!("is no Kafka request: {}", not_a_word(text, &API_KEYS)));
            }
        }
    }
    if rule.has("role") && rule.has("apiKey") {
        f.problem(&rule.path_of("role"), "does not go with apiKey; a role is a set of them");
    }
    requests
}

fn read_topic(at: &At<'_>, f: &mut Findings) -> Option<String> {
    let text = at.string(f).filter(|text| !text.is_empty())?;
    let name = text.strip_suffix('*').unwrap_or(text);
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.len() > 255 || !name.bytes().all(character) {
        let reason = "is no topic: at most 255 letters, digits, '.', '_' or '-', and '*' at the end";
        f.problem(&at.path, format!("{text:?} {reason}"));
    }
    Some(text.to_owned())
}

/// Groups and transactional ids are any text; `None` where the field is not there.
fn read_names(rule: &Object<'_>, field: &str, f: &mut Findings) -> Option<Vec<String>> {
    let items = rule.list(field, f)?;
    if items.is_empty() {
        f.problem(&rule.path_of(field), "is empty; name one, or remove it");
    }
    let mut names = Vec::new();
    for item in items {
        let Some(name) = item.string(f) else { continue };
        if name.is_empty() || name.trim_end_matches('*').contains('*') || name.ends_with("**") {
            f.problem(&item.path, format!("{name:?} is no name; '*' stands at its end or nowhere"));
        }
        names.push(name.to_owned());
    }
    Some(names)
}

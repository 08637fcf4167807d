//! `POST /v1/explain`: which rule would decide, and what keeps the others from it.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use ipnet::IpNet;
use policy_engine::{
    compiled::L4Verdict,
    direction::Direction,
    explain::{
        Outcome, RequestDecision, RequestKind, explain as explain_flow, explain_kafka, no_request_rule,
    },
    http::HttpRequest,
    identity::{Identity, RESERVED},
    kafka::{Fault, KafkaRequest},
    model::Protocol,
    naive::{Decision, Flow},
};

use super::answer::{Answer, json};
use crate::{
    agent::{
        Agent, datapath::default_deny_text, error::AgentError, identities::label_texts, ipcache,
        state::State as Known,
    },
    api::{DirectionExplanation, ExplainRequest, Explanation, OtherRule, explain::ExplainedEnd},
    flows::record::Action,
    kafka_request,
};

/// One end of the flow that is asked about.
struct End {
    name: String,
    identity: Arc<Identity>,
    /// Its policies hold on this node.
    is_endpoint: bool,
}

struct Port {
    protocol: Protocol,
    /// Of ICMP the type.
    number: u16,
    shown: String,
}

/// What is asked about.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Packet,
    Http(&'a HttpRequest<'a>),
    Kafka(&'a KafkaRequest),
}

impl Asked<'_> {
    /// Of a request.
    fn kind(self) -> RequestKind {
        match self {
            Self::Packet => RequestKind::Http,
            Self::Http(request) => RequestKind::from(request),
            Self::Kafka(_) => RequestKind::Kafka,
        }
    }
}

fn no_such_request(Fault { field, reason }: Fault) -> AgentError {
    let field = field.map_or_else(String::new, |field| format!(".{field}"));
    AgentError::Invalid(format!("kafka{field}: {reason}"))
}

pub async fn explain(State(agent): State<Arc<Agent>>, request: Request) -> Answer<Json<Explanation>> {
    let asked: ExplainRequest = json(request).await?;
    let state = agent.state.lock().await;
    let (from, to) = (state.end(&asked.from)?, state.end(&asked.to)?);
    let port = state.port(asked.port.as_deref(), &to)?;
    let path = asked.http.as_ref().map_or("", |http| http.path.as_str());
    let request = asked.http.as_ref().map(|http| HttpRequest {
        method: &http.method,
        path,
        host: &http.host,
        headers: &http.headers,
    });
    let request = match (&request, &asked.kafka) {
        (Some(_), Some(_)) => return Err(AgentError::Invalid("kafka does not go with http".to_owned())),
        (Some(http), None) => Asked::Http(http),
        (None, Some(kafka)) => {
            // Told of a flow where nobody is asked, too.
            let _ = kafka_request::judge(&[], kafka).map_err(no_such_request)?;
            Asked::Kafka(kafka)
        }
        (None, None) => Asked::Packet,
    };
    let egress = state.direction(Direction::Egress, &from, &to, &port, request)?;
    let ingress = state.direction(Direction::Ingress, &to, &from, &port, request)?;
    let verdict = together(egress.action, ingress.action, request);
    Ok(Json(Explanation {
        rule: deciding(verdict, &egress, &ingress),
        from: shown(&from),
        to: shown(&to),
        port: port.shown,
        verdict,
        egress,
        ingress,
        revision: state.enforcement.revision(),
    }))
}

impl Known {
    /// An endpoint by name, an address, a prefix or an entity.
    fn end(&self, asked: &str) -> Answer<End> {
        let endpoint_at = |address: IpAddr| {
            self.endpoints.iter().find(|endpoint| endpoint.addresses().any(|own| own == address))
        };
        let address: Option<IpAddr> = asked.parse().ok();
        let endpoint = match address {
            Some(address) => endpoint_at(address),
            None => match self.endpoints.find(asked) {
                Ok(endpoint) => Some(endpoint),
                Err(AgentError::NotFound(_)) => None,
                Err(other) => return Err(other),
            },
        };
        let is_endpoint = endpoint.is_some();
        let number = match endpoint {
            Some(endpoint) => self.identity_of.get(&endpoint.id).copied(),
            None => {
                let net = address.map(IpNet::from).or_else(|| asked.parse().ok());
                net.and_then(|net| ipcache::covering(self.ipcache.written(), net))
                    .map(|owner| owner.identity)
                    .or_else(|| entity(asked))
            }
        };
        let identity =
            number.and_then(|number| self.engine.identities().identity(number)).cloned().ok_or_else(
                || AgentError::NotFound(format!("{asked:?} is no endpoint, address, prefix or entity")),
            )?;
        Ok(End { name: asked.to_owned(), identity, is_endpoint })
    }

    /// `80/TCP`, `http/TCP` or `8/ICMP`; names are the destination's.
    fn port(&self, asked: Option<&str>, to: &End) -> Answer<Port> {
        let Some(asked) = asked else {
            return Ok(Port { protocol: Protocol::Tcp, number: 0, shown: "any".to_owned() });
        };
        let refused = |why: &str| AgentError::Invalid(format!("port {asked:?}: {why}"));
        let (port, protocol) = asked.split_once('/').unwrap_or((asked, "TCP"));
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            "ICMP" | "ICMPV4" => Protocol::Icmp,
            "ICMPV6" => Protocol::Icmpv6,
            _ => return Err(refused("the protocol is none of TCP, UDP, SCTP, ICMP, ICMPv6")),
        };
        let number = match port.parse() {
            Ok(number) => number,
            Err(_) => to
                .identity
                .named_ports
                .port(&port.to_lowercase(), protocol)
                .ok_or_else(|| refused("the destination has no port of that name and protocol"))?,
        };
        let name = match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            Protocol::Icmp => "ICMP",
            Protocol::Icmpv6 => "ICMPv6",
        };
        Ok(Port { protocol, number, shown: format!("{number}/{name}") })
    }

    fn direction(
        &self,
        direction: Direction,
        subject: &End,
        peer: &End,
        port: &Port,
        asked: Asked<'_>,
    ) -> Answer<DirectionExplanation> {
        if !subject.is_endpoint {
            return Ok(DirectionExplanation { action: Action::None, rule: String::new(), others: vec![] });
        }
        let flow = Flow {
            subject: &subject.identity,
            direction,
            peer: &peer.identity,
            protocol: port.protocol,
            port: port.number,
        };
        let policies = self.engine.policies();
        let explained = match asked {
            Asked::Packet => explain_flow(policies, &flow, None),
            Asked::Http(request) => explain_flow(policies, &flow, Some(request)),
            Asked::Kafka(request) => {
                explain_kafka(policies, &flow, kafka_request::judge, request).map_err(no_such_request)?
            }
        };
        let (action, rule) = match (&explained.decision, &explained.request) {
            (_, Some(RequestDecision::Allowed(origin))) => (Action::Allow, origin.to_string()),
            (Decision::Rule(L4Verdict::Redirect { rule, .. }), Some(RequestDecision::Denied)) => {
                (Action::Deny, no_request_rule(rule, asked.kind()))
            }
            (Decision::NotEnforced, _) => (Action::None, "no policy".to_owned()),
            (Decision::DefaultDeny(specs), _) => {
                let specs =
                    default_deny_text(specs.iter()).map(|specs| format!(" ({specs})")).unwrap_or_default();
                (Action::Deny, format!("default deny{specs}"))
            }
            (Decision::Rule(L4Verdict::Deny { rule }), _) => (Action::Deny, rule.to_string()),
            (Decision::Rule(L4Verdict::Allow { rule }), _) => (Action::Allow, rule.to_string()),
            (Decision::Rule(L4Verdict::Redirect { rule, .. }), _) => (Action::Redirect, rule.to_string()),
        };
        let others = explained.candidates.iter().filter(|candidate| candidate.outcome != Outcome::Decides);
        let others = others.map(|candidate| OtherRule {
            rule: candidate.origin.to_string(),
            why: candidate.outcome.to_string(),
        });
        Ok(DirectionExplanation { action, rule, others: others.collect() })
    }
}

/// An entity that stands for one identity. `world` is IPv4's: most people mean that.
fn entity(name: &str) -> Option<u32> {
    let name = if name == "world" { "world-ipv4" } else { name };
    RESERVED.iter().find(|(_, known, _)| *known == name).map(|(number, _, _)| *number)
}

/// As the kernel combines both ends: deny if one denies, redirect if one redirects.
fn together(egress: Action, ingress: Action, asked: Asked<'_>) -> Action {
    let request = !matches!(asked, Asked::Packet);
    if egress == Action::Deny || ingress == Action::Deny {
        Action::Deny
    } else if !request && (egress == Action::Redirect || ingress == Action::Redirect) {
        Action::Redirect
    } else {
        Action::Allow
    }
}

fn deciding(verdict: Action, egress: &DirectionExplanation, ingress: &DirectionExplanation) -> String {
    let decides = |end: &&(&str, &DirectionExplanation)| match verdict {
        Action::Deny => end.1.action == Action::Deny,
        _ => matches!(end.1.action, Action::Allow | Action::Redirect),
    };
    let ends = [("egress", egress), ("ingress", ingress)];
    let deciding: Vec<_> = ends.iter().filter(decides).collect();
    match deciding.as_slice() {
        [] => "no policy".to_owned(),
        [(_, only)] => only.rule.clone(),
        both => both.iter().map(|(end, said)| format!("{end}: {}", said.rule)).collect::<Vec<_>>().join("; "),
    }
}

fn shown(end: &End) -> ExplainedEnd {
    ExplainedEnd {
        name: end.name.clone(),
        identity: end.identity.id,
        labels: label_texts(&end.identity.labels),
    }
}

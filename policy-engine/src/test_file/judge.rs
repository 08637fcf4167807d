//! One test at a time through the compiled form.

use std::{collections::HashMap, sync::Arc};

use super::{
    Protocols, Row, TestFileError,
    format::{self, Http, Test},
    world::{End, World},
};
use crate::{
    compile::compile,
    compiled::{DirectionPolicy, L4Verdict, L7Rules, SubjectPolicy},
    direction::Direction,
    explain::{self, RequestDecision, RequestKind, no_request_rule},
    http::{HttpRequest, HttpRules, HttpVerdict},
    identity::RESERVED,
    kafka::{self, KafkaRequest},
    model::{Origin, Protocol},
    policy_set::PolicySet,
};

pub(super) struct Judge<'a> {
    policies: &'a PolicySet,
    world: &'a World,
    protocols: Protocols,
    compiled: HashMap<u32, SubjectPolicy>,
}

/// A test without its ends.
struct Question<'t> {
    /// In the list of tests.
    index: usize,
    protocol: Protocol,
    port: u16,
    http: Option<Request<'t>>,
    kafka: Option<&'t KafkaRequest>,
}

/// A request with its path as a proxy judges it.
struct Request<'t> {
    http: &'t Http,
    path: String,
}

/// What one end says about the flow, and about the request if there is one.
struct Answer {
    l4: &'static str,
    request: &'static str,
    rule: String,
    l7: Option<Arc<L7Rules>>,
}

impl Answer {
    fn l4(answer: &'static str, rule: String) -> Self {
        Self { l4: answer, request: answer, rule, l7: None }
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(policies: &'a PolicySet, world: &'a World, protocols: Protocols) -> Self {
        Self { policies, world, protocols, compiled: HashMap::new() }
    }

    pub(super) fn row(&mut self, index: usize, test: &Test) -> Result<Row, TestFileError> {
        let place = |field: &str| format!("tests[{index}].{field}");
        let (protocol, port, port_text) = format::port(&test.port, &place("port"))?;
        let end = |field: &str, text: &str| {
            self.world.end(text).ok_or_else(|| TestFileError::format(place(field), unknown_end(text)))
        };
        let (from, to) = (end("from", &test.from)?, end("to", &test.to)?);
        let call =
            match &test.grpc {
                Some(_) if test.http.is_some() => {
                    return Err(TestFileError::format(
                        place("grpc"),
                        "does not go with http; write a test for each",
                    ));
                }
                Some(call) => Some(call.request().map_err(|(field, reason)| {
                    TestFileError::format(place(&format!("grpc.{field}")), reason)
                })?),
                None => None,
            };
        let http = test.http.as_ref().or(call.as_ref()).map(|http| {
            let path = (self.protocols.path_form)(&http.path)
                .map_err(|reason| TestFileError::format(place("http.path"), reason))?;
            Ok(Request { http, path })
        });
        let http = http.transpose()?;
        if let Some(request) = &test.kafka {
            if http.is_some() {
                let reason = "does not go with http or grpc; write a test for each";
                return Err(TestFileError::format(place("kafka"), reason));
            }
            // Told of a test that no rule is asked for, too.
            let _ = (self.protocols.kafka)(&[], request).map_err(|fault| kafka_fault(index, fault))?;
        }
        let question = Question { index, protocol, port, http, kafka: test.kafka.as_ref() };
        let egress = self.ask(&from, Direction::Egress, &to, &question)?;
        let ingress = self.ask(&to, Direction::Ingress, &from, &question)?;
        let (verdict, rule) = combine(&egress, &ingress);
        let expect = test.expect.map(|expect| expect.name());
        Ok(Row {
            name: test.name.clone(),
            from: test.from.clone(),
            to: test.to.clone(),
            port: port_text,
            egress: egress.l4,
            ingress: ingress.l4,
            verdict,
            rule,
            expect: expect.map(str::to_owned),
            ok: expect.map(|expect| expect == verdict),
            egress_l7: egress.l7,
            ingress_l7: ingress.l7,
        })
    }

    fn ask(
        &mut self,
        subject: &End,
        direction: Direction,
        peer: &End,
        question: &Question<'_>,
    ) -> Result<Answer, TestFileError> {
        if !subject.policed {
            return Ok(Answer::l4("none", String::new()));
        }
        let policy = self
            .compiled
            .entry(subject.identity.id)
            .or_insert_with(|| compile(self.policies, &subject.identity, &self.world.identities).policy);
        let policy = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let Some(policy) = policy else {
            return Ok(Answer::l4("allow", String::new()));
        };
        let Some(piece) = policy.lookup(peer.identity.id, question.protocol, question.port) else {
            return Ok(Answer::l4("deny", default_deny(policy)));
        };
        Ok(match &piece.verdict {
            L4Verdict::Deny { rule } => Answer::l4("deny", rule.to_string()),
            L4Verdict::Allow { rule } => Answer::l4("allow", rule.to_string()),
            L4Verdict::Redirect { rule, l7 } => {
                let mut answer = Answer::l4("redirect", rule.to_string());
                answer.l7 = Some(l7.clone());
                if let Some(request) = &question.http {
                    (answer.request, answer.rule) = judge_request(l7, rule, request).map_err(|reason| {
                        TestFileError::format(format!("tests[{}].http", question.index), reason)
                    })?;
                }
                if let Some(request) = question.kafka {
                    let verdict = judge_kafka(self.protocols.kafka, l7, rule, request);
                    (answer.request, answer.rule) =
                        verdict.map_err(|fault| kafka_fault(question.index, fault))?;
                }
                answer
            }
        })
    }
}

fn default_deny(policy: &DirectionPolicy) -> String {
    let specs: Vec<String> = policy.default_deny.values().map(ToString::to_string).collect();
    if specs.is_empty() { "default deny".to_owned() } else { format!("default deny ({})", specs.join(", ")) }
}

fn judge_request(
    l7: &L7Rules,
    redirect: &Origin,
    Request { http, path }: &Request<'_>,
) -> Result<(&'static str, String), String> {
    let rules = HttpRules::compile(&l7.requests.specs()).map_err(|error| error.to_string())?;
    let request = HttpRequest { method: &http.method, path, host: &http.host, headers: &http.headers };
    Ok(match (rules.decide(&request), &l7.any) {
        (HttpVerdict::Allowed { rule, .. }, _) => ("allow", l7.requests.origin(rule).to_string()),
        (HttpVerdict::Denied, Some(any)) => ("allow", any.to_string()),
        (HttpVerdict::Denied, None) => ("deny", no_request_rule(redirect, RequestKind::from(&request))),
    })
}

fn judge_kafka(
    judge: kafka::Judge,
    l7: &L7Rules,
    redirect: &Origin,
    request: &KafkaRequest,
) -> Result<(&'static str, String), kafka::Fault> {
    Ok(match explain::kafka(judge, l7, request)? {
        Some(RequestDecision::Allowed(origin)) => ("allow", origin.to_string()),
        Some(RequestDecision::Denied) => ("deny", no_request_rule(redirect, RequestKind::Kafka)),
        None => ("allow", redirect.to_string()),
    })
}

fn kafka_fault(index: usize, kafka::Fault { field, reason }: kafka::Fault) -> TestFileError {
    let place = field.map_or_else(String::new, |field| format!(".{field}"));
    TestFileError::format(format!("tests[{index}].kafka{place}"), reason)
}

fn unknown_end(text: &str) -> String {
    if ["all", "cluster", "cluster-mesh", "none"].contains(&text) {
        return format!("{text} stands for several or for nobody; name one, such as world or host");
    }
    let entities: Vec<&str> = RESERVED.iter().map(|(_, name, _)| *name).collect();
    format!(
        "{text:?} is no endpoint of this file, no address, no CIDR and none of the entities {}",
        entities.join(", ")
    )
}

/// Both ends must agree. Named are the ends that deny, or else all that let it pass.
fn combine(egress: &Answer, ingress: &Answer) -> (&'static str, String) {
    let said = |verdict: &str| [egress, ingress].iter().any(|answer| answer.request == verdict);
    let verdict = ["deny", "redirect"].into_iter().find(|verdict| said(verdict)).unwrap_or("allow");
    let decides =
        |answer: &Answer| (verdict != "deny" || answer.request == "deny") && !answer.rule.is_empty();
    let rule = match (decides(egress), decides(ingress)) {
        (true, true) => format!("egress: {}; ingress: {}", egress.rule, ingress.rule),
        (true, false) => egress.rule.clone(),
        (false, true) => ingress.rule.clone(),
        (false, false) => "no policy".to_owned(),
    };
    (verdict, rule)
}

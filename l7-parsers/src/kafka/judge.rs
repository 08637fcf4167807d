//! A decoded request and a policy → what becomes of it.

mod lists;

use self::lists::Left;
use super::{
    answer,
    api::{self, Api, Names, Shown, Whole},
    merge::{Key, Merge},
    record,
    rules::{Policy, Question, Resource, Verdict},
    schema::{Layout, Message},
    topics::{TopicId, TopicIds},
    value::Value,
};

/// What was found while judging, for the flow record.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The rule that allowed first, or that denied first where something was denied.
    pub(super) rule: u32,
    pub(super) allowed: u32,
    pub(super) denied: u32,
    /// The first error that was put into the answer.
    pub(super) code: i16,
    /// The first topics that were asked about.
    pub(super) topics: Vec<String>,
    pub(super) topics_in_all: usize,
}

impl Findings {
    /// The same, but the topics will be asked about again.
    pub(super) fn without_topics(self) -> Self {
        Self { topics: Vec::new(), topics_in_all: 0, ..self }
    }

    fn note(&mut self, resource: Resource<'_>) {
        let Resource::Topic(name) = resource else { return };
        if self.topics.len() < record::TOPICS {
            // What is longer than a topic's name can be is none.
            self.topics.push(name.chars().take(record::NAME).collect());
        }
        self.topics_in_all += 1;
    }
}

/// What becomes of a request.
pub(super) enum Decision {
    /// As it came (or as a step before this one changed it).
    Forward(Value, Edit),
    /// Without what is denied.
    Rewritten(Value, Edit),
    /// Not at all; this is its answer.
    Answer(Value),
}

/// What must be done to the broker's answer.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) merge: Option<Merge>,
    /// Leave out (or mark) what the client may not see.
    pub(super) shown: Option<Shown>,
    /// Metadata of version 0 cannot ask for nothing: whatever comes is left out.
    pub(super) discard: Option<&'static str>,
    /// Topics asked for by id are known by name only in the answer.
    pub(super) by_id: bool,
}

impl Edit {
    pub(super) fn is_needed(&self) -> bool {
        self.merge.is_some() || self.shown.is_some() || self.discard.is_some() || self.by_id
    }
}

pub(super) struct Judge<'a> {
    pub(super) policy: &'a dyn Policy,
    pub(super) message: &'a Message,
    pub(super) api: &'a Api,
    pub(super) version: i16,
    pub(super) client_id: &'a str,
    pub(super) ids: &'a TopicIds,
    pub(super) group: Option<String>,
    pub(super) transactional_id: Option<String>,
    pub(super) findings: Findings,
}

impl Judge<'_> {
    /// The error that this resource is refused with, if it is.
    pub(super) fn refusal(&mut self, resource: Resource<'_>, group: Option<&str>) -> Option<i16> {
        self.findings.note(resource);
        let verdict = self.policy.judge(&Question {
            api_key: self.api.key,
            api_version: self.version,
            client_id: self.client_id,
            resource,
            group: group.or(self.group.as_deref()),
            transactional_id: self.transactional_id.as_deref(),
        });
        match verdict {
            Verdict::Allow { rule } => {
                if self.findings.allowed == 0 && self.findings.denied == 0 {
                    self.findings.rule = rule;
                }
                self.findings.allowed += 1;
                None
            }
            Verdict::Deny { rule } => {
                let code = answer::code_of(resource);
                if self.findings.denied == 0 {
                    (self.findings.rule, self.findings.code) = (rule, code);
                }
                self.findings.denied += 1;
                Some(code)
            }
        }
    }

    pub(super) fn decide(&mut self, mut request: Value) -> Decision {
        let layout = &self.message.request;
        self.context(&request);
        for whole in self.api.whole {
            if let Some(code) = self.whole(whole, &request) {
                self.findings.code = code;
                let answer = answer::whole(self.message, self.api, self.version, &request, code);
                return Decision::Answer(answer);
            }
        }
        let mut edit = Edit::default();
        if let Shown::Names(..) | Shown::MemberTopics(_) | Shown::TransactionTopics(_) | Shown::Assignment =
            self.api.shown
        {
            edit.shown = Some(self.api.shown);
        }
        let entries = answer::entries_in(self.api, layout, self.version);
        let scope = self.api.scope.filter(|scope| layout.index_in(scope, self.version).is_some());
        let left = match (entries, scope) {
            (Some(entries), _) => self.list(entries, layout, &mut request, &mut edit),
            (None, Some(scope)) => self.scopes(scope, &mut request, &mut edit),
            (None, None) => return Decision::Forward(request, edit),
        };
        self.conclude(left, request, edit)
    }

    fn conclude(&mut self, left: Left, request: Value, edit: Edit) -> Decision {
        let response = &self.message.response;
        match (left, &edit.merge) {
            (Left::All, _) | (_, None) => Decision::Forward(request, edit),
            (Left::None, Some(_)) if !ALWAYS_ASKED.contains(&self.api.key) => {
                let mut answer = Value::empty(response);
                if let Some(merge) = edit.merge {
                    merge.into_answer(&mut answer, response);
                }
                Decision::Answer(answer)
            }
            _ => Decision::Rewritten(request, edit),
        }
    }

    /// The group and the transactional id that the request speaks for.
    fn context(&mut self, request: &Value) {
        let layout = &self.message.request;
        for whole in self.api.whole {
            let text = |field: &str| request.get(layout, field).as_text().map(str::to_owned);
            match whole {
                Whole::Group(field) => self.group = text(field),
                Whole::Transaction(field) => self.transactional_id = text(field),
                _ => {}
            }
        }
    }

    fn whole(&mut self, whole: &Whole, request: &Value) -> Option<i16> {
        let layout = &self.message.request;
        let here = |field: &str| layout.index_in(field, self.version).is_some();
        match whole {
            Whole::Group(field) if here(field) => {
                let group = request.get(layout, field).as_text().unwrap_or_default().to_owned();
                self.refusal(Resource::Group(&group), None)
            }
            Whole::Transaction(field) if here(field) => {
                let id = self.transactional_id.clone()?;
                self.refusal(Resource::TransactionalId(&id), None)
            }
            Whole::Coordinator(field) if here(field) => {
                let name = request.get(layout, field).as_text().unwrap_or_default().to_owned();
                let key_type = request.get(layout, "KeyType").as_int().unwrap_or(0);
                self.coordinator(&name, key_type)
            }
            Whole::Topics(field) => {
                let topics = request.get(layout, field).elements().iter();
                let codes = topics.map(|name| self.topic(name.as_text().unwrap_or_default()));
                codes.fold(None, Option::or)
            }
            Whole::Topology => {
                let mut names = Vec::new();
                topology_topics(request.get(layout, "Topology"), layout.inside("Topology"), &mut names);
                names.iter().map(|name| self.topic(name)).fold(None, Option::or)
            }
            Whole::Cluster(code) => self.refusal(Resource::Cluster, None).map(|_| *code),
            Whole::Replica => {
                let state = layout.inside("ReplicaState");
                let replica = request.get(layout, "ReplicaId").as_int();
                let state = state
                    .and_then(|state| request.get(layout, "ReplicaState").get(state, "ReplicaId").as_int());
                let follower = replica.or(state).is_some_and(|id| id >= 0);
                if follower { self.refusal(Resource::Cluster, None) } else { None }
            }
            Whole::ProducerId if self.transactional_id.is_none() => self.refusal(Resource::ProducerId, None),
            Whole::Group(_) | Whole::Transaction(_) | Whole::Coordinator(_) | Whole::ProducerId => None,
        }
    }

    fn topic(&mut self, name: &str) -> Option<i16> {
        self.refusal(Resource::Topic(name), None)
    }

    fn coordinator(&mut self, name: &str, key_type: i64) -> Option<i16> {
        match key_type {
            0 => self.refusal(Resource::Group(name), None),
            1 => self.refusal(Resource::TransactionalId(name), None),
            _ => self.refusal(Resource::Cluster, None),
        }
    }
}

/// Go to the broker even with nothing left in them: Metadata tells the brokers, the others keep the
/// broker's share session in step.
const ALWAYS_ASKED: [i16; 3] = [api::METADATA, api::SHARE_FETCH, api::SHARE_ACKNOWLEDGE];

/// Names of topics in a streams topology, whatever they are for.
pub(super) fn topology_topics(value: &Value, layout: Option<&Layout>, names: &mut Vec<String>) {
    let Some(layout) = layout else { return };
    for (field, value) in layout.fields.iter().zip(value.fields()) {
        let topics = field.name.ends_with("Topics");
        for element in value.elements() {
            match field.kind.layout() {
                Some(inside) if topics => {
                    names.extend(element.get(inside, "Name").as_text().map(str::to_owned));
                }
                Some(inside) => topology_topics(element, Some(inside), names),
                None if topics => names.extend(element.as_text().map(str::to_owned)),
                None => {}
            }
        }
    }
}

/// Ids that the request names topics by, of which no name is known yet.
pub(super) fn unknown_ids(
    message: &Message,
    api: &Api,
    version: i16,
    request: &Value,
    ids: &TopicIds,
) -> Vec<TopicId> {
    if api.key == api::METADATA {
        return Vec::new();
    }
    let Some(entries) = answer::entries_in(api, &message.request, version) else { return Vec::new() };
    let (Names::Topic, Some(inside)) = (entries.names, message.request.inside(entries.request)) else {
        return Vec::new();
    };
    let mut unknown: Vec<TopicId> = request
        .get(&message.request, entries.request)
        .elements()
        .iter()
        .filter_map(|one| match Key::asked(one, Some(inside)) {
            Key::Id(id) if id != [0; 16] && ids.name(id).is_none() => Some(id),
            _ => None,
        })
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

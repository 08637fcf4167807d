//! What the client may see of a broker's answer.

use super::{
    answer,
    api::{self, Names, Shown, error},
    judge::{Edit, Judge, topology_topics},
    rules::Resource,
    schema::{Layout, Message},
    value::Value,
};

impl Judge<'_> {
    pub(super) fn edit(&mut self, edit: Edit, answer: &mut Value) {
        let layout = &self.message.response;
        if let Some(field) = edit.discard {
            answer.set(layout, field, Value::Array(Vec::new()));
        }
        if edit.by_id {
            self.mark_topics(answer);
        }
        match edit.shown {
            Some(Shown::Names(list, field, names) | Shown::AllNames(list, field, names)) => {
                self.hide(answer, list, field, names);
            }
            Some(Shown::MemberTopics(list)) => self.hide_members(answer, list),
            Some(Shown::TransactionTopics(list)) => {
                let Some(inside) = layout.inside(list) else { return };
                let mut states = answer.get_mut(layout, list).map(Value::take_elements).unwrap_or_default();
                for state in &mut states {
                    self.retain(state, inside, "Topics", "Topic", Names::Topic);
                }
                answer.set(layout, list, Value::Array(states));
            }
            Some(Shown::Assignment) => self.hide_assigned(answer),
            Some(Shown::Nothing) | None => {}
        }
        if let Some(merge) = edit.merge {
            merge.into_answer(answer, layout);
        }
    }

    fn may_see(&mut self, names: Names, name: &str) -> bool {
        // Only what the request itself asked for counts in its record.
        let before = std::mem::take(&mut self.findings);
        let code = match names {
            Names::Group => self.refusal(Resource::Group(name), None),
            Names::Transaction => self.refusal(Resource::TransactionalId(name), None),
            _ => self.refusal(Resource::Topic(name), None),
        };
        let seen = std::mem::replace(&mut self.findings, before);
        if self.findings.rule == 0 {
            self.findings.rule = seen.rule;
        }
        code.is_none()
    }

    fn hide(&mut self, answer: &mut Value, list: &str, field: &str, names: Names) {
        let layout = &self.message.response;
        if layout.index_in(list, self.version).is_some() {
            return self.retain(answer, layout, list, field, names);
        }
        let Some((scope, inside)) = self.api.scope.and_then(|scope| Some((scope, layout.inside(scope)?)))
        else {
            return;
        };
        let mut groups = answer.get_mut(layout, scope).map(Value::take_elements).unwrap_or_default();
        let outer = self.group.take();
        for group in &mut groups {
            self.group = group.get(inside, "GroupId").as_text().map(str::to_owned);
            self.retain(group, inside, list, field, names);
        }
        self.group = outer;
        answer.set(layout, scope, Value::Array(groups));
    }

    fn retain(&mut self, holder: &mut Value, layout: &Layout, list: &str, field: &str, names: Names) {
        let Some(inside) = layout.inside(list) else { return };
        let Some(Value::Array(entries)) = holder.get_mut(layout, list) else { return };
        entries.retain(|one| one.get(inside, field).as_text().is_some_and(|name| self.may_see(names, name)));
    }

    /// Topics that were asked for by id: a broker tells the id of a denied one, not its name.
    fn mark_topics(&mut self, answer: &mut Value) {
        let layout = &self.message.response;
        let (Some(inside), Some(Value::Array(topics))) =
            (layout.inside("Topics"), answer.get_mut(layout, "Topics"))
        else {
            return;
        };
        for topic in topics {
            let name = topic.get(inside, "Name").as_text().map(str::to_owned);
            if name.is_none_or(|name| name.is_empty() || self.refusal(Resource::Topic(&name), None).is_none())
            {
                continue;
            }
            let mut marked = Value::empty(inside);
            marked.set(inside, "TopicId", topic.get(inside, "TopicId").clone());
            marked.set(inside, "Name", Value::Null);
            answer::set_error(&mut marked, inside, error::TOPIC);
            *topic = marked;
        }
    }

    /// A broker assigns of the topics that match a regular expression those that the member's ACLs let it
    /// describe, and says nothing of the others.
    fn hide_assigned(&mut self, answer: &mut Value) {
        let layout = &self.message.response;
        let Some((assignment, list, topic)) = api::assignment(layout) else { return };
        let ids = self.ids;
        let Some(Value::Array(topics)) =
            answer.get_mut(layout, "Assignment").and_then(|assigned| assigned.get_mut(assignment, list))
        else {
            return;
        };
        topics.retain(|one| {
            let name = one.get(topic, "TopicId").as_uuid().and_then(|id| ids.name(id));
            name.is_some_and(|name| self.may_see(Names::Topic, name))
        });
    }

    /// A group whose members read denied topics tells nothing of them.
    fn hide_members(&mut self, answer: &mut Value, list: &str) {
        let layout = &self.message.response;
        let (Some(inside), Some(Value::Array(groups))) = (layout.inside(list), answer.get_mut(layout, list))
        else {
            return;
        };
        for group in groups {
            let mut names = Vec::new();
            topic_names(group, inside, &mut names);
            topology_topics(group.get(inside, "Topology"), inside.inside("Topology"), &mut names);
            if names.iter().all(|name| self.may_see(Names::Topic, name)) {
                continue;
            }
            let mut marked = Value::empty(inside);
            marked.set(inside, "GroupId", group.get(inside, "GroupId").clone());
            answer::set_error(&mut marked, inside, error::TOPIC);
            *group = marked;
        }
    }
}

/// What any `TopicName` inside says.
fn topic_names(value: &Value, layout: &Layout, names: &mut Vec<String>) {
    for (field, value) in layout.fields.iter().zip(value.fields()) {
        if field.name == "TopicName" {
            names.extend(value.as_text().map(str::to_owned));
        }
        let Some(inside) = field.kind.layout() else { continue };
        topic_names(value, inside, names);
        value.elements().iter().for_each(|element| topic_names(element, inside, names));
    }
}

/// The first error of an answer, 0 if there is none; for the flow record.
pub(super) fn first_error(value: &Value, layout: &Layout) -> i16 {
    let own = ["ErrorCode", "PartitionErrorCode"]
        .iter()
        .find_map(|name| value.get(layout, name).as_int().filter(|code| *code != 0));
    if let Some(code) = own {
        return code as i16;
    }
    let nested = layout.fields.iter().zip(value.fields()).filter_map(|(field, value)| {
        let inside = field.kind.layout()?;
        let own = (!value.fields().is_empty()).then_some(value);
        own.into_iter().chain(value.elements()).map(|one| first_error(one, inside)).find(|code| *code != 0)
    });
    nested.into_iter().next().unwrap_or(0)
}

/// Leaves of an ApiVersions answer what is understood here, so that clients speak no other.
pub(super) fn narrow(message: &Message, answer: &mut Value) {
    let layout = &message.response;
    let (Some(inside), Some(Value::Array(apis))) =
        (layout.inside("ApiKeys"), answer.get_mut(layout, "ApiKeys"))
    else {
        return;
    };
    apis.retain_mut(|one| {
        let number = |field: &str| one.get(inside, field).as_int().and_then(|n| i16::try_from(n).ok());
        let (Some(key), Some(first), Some(last)) =
            (number("ApiKey"), number("MinVersion"), number("MaxVersion"))
        else {
            return false;
        };
        let known = api::offered(key);
        let (first, last) = (first.max(known.first), last.min(known.last));
        one.set(inside, "MinVersion", Value::Int(first.into()));
        one.set(inside, "MaxVersion", Value::Int(last.into()));
        first <= last
    });
}

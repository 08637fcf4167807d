//! The lists of a request, entry by entry.

use super::{Edit, Judge};
use crate::kafka::{
    answer,
    api::{self, Api, Entries, Names, Shown, error},
    merge::{Key, Merge, Slot},
    rules::Resource,
    schema::Layout,
    value::Value,
};

impl Judge<'_> {
    /// Judges the entries of one list, takes the denied ones out of it and notes them for the answer.
    pub(super) fn list(
        &mut self,
        entries: &Entries,
        layout: &Layout,
        request: &mut Value,
        edit: &mut Edit,
    ) -> Left {
        let response = &self.message.response;
        let all = is_all(self.api, self.version, request.get(layout, entries.request));
        if let (Shown::AllNames(..), true) = (self.api.shown, all) {
            edit.shown = Some(self.api.shown);
            return Left::All;
        }
        let key_type = request.get(layout, "KeyType").as_int().unwrap_or(0);
        let Some(list) = request.get_mut(layout, entries.request) else { return Left::All };
        let asked = list.take_elements();
        let (slots, kept) = self.slots(entries, layout, response, asked, None, key_type, edit);
        let denied = slots.iter().any(|slot| matches!(slot, Slot::Denied(_)));
        let left = Left::of(kept.len(), denied);
        if denied && self.api.key == api::METADATA && self.version == 0 && kept.is_empty() {
            edit.discard = Some(entries.response);
        }
        if let Some(list) = request.get_mut(layout, entries.request) {
            *list = Value::Array(kept);
        }
        if denied {
            edit.merge = Some(Merge::List { response: entries.response, slots });
        }
        left
    }

    #[allow(clippy::too_many_arguments)]
    fn slots(
        &mut self,
        entries: &Entries,
        layout: &Layout,
        response: &Layout,
        asked: Vec<Value>,
        group: Option<&str>,
        key_type: i64,
        edit: &mut Edit,
    ) -> (Vec<Slot>, Vec<Value>) {
        let inside = layout.inside(entries.request);
        let mut codes: Vec<_> =
            asked.iter().map(|one| self.entry(entries, one, inside, group, key_type, edit)).collect();
        if self.api.key == api::ADD_PARTITIONS_TO_TXN && codes.iter().any(Option::is_some) {
            // One denied topic, and the others are not tried either.
            codes.iter_mut().for_each(|code| *code = code.or(Some(error::OPERATION_NOT_ATTEMPTED)));
        }
        let (mut slots, mut kept) = (Vec::with_capacity(asked.len()), Vec::new());
        for (one, code) in asked.into_iter().zip(codes) {
            match code {
                Some(code) => {
                    slots.push(Slot::Denied(answer::entry(entries, &one, layout, response, code)));
                }
                None => {
                    slots.push(Slot::Forwarded(Key::asked(&one, inside)));
                    kept.push(one);
                }
            }
        }
        (slots, kept)
    }

    fn entry(
        &mut self,
        entries: &Entries,
        asked: &Value,
        layout: Option<&Layout>,
        group: Option<&str>,
        key_type: i64,
        edit: &mut Edit,
    ) -> Option<i16> {
        match (entries.names, Key::asked(asked, layout)) {
            (Names::Unjudged, _) => None,
            (Names::Config, _) => self.config(asked, layout?),
            (Names::Topic, Key::Name(name)) => self.refusal(Resource::Topic(utf8(&name)), group),
            (Names::Topic, Key::Id(_)) if self.api.key == api::METADATA => {
                edit.by_id = true;
                None
            }
            (Names::Topic, Key::Id(id)) => match self.ids.name(id) {
                Some(name) => self.refusal(Resource::Topic(name), group),
                None => {
                    self.findings.denied += 1;
                    self.findings.code = error::UNKNOWN_TOPIC_ID;
                    Some(error::UNKNOWN_TOPIC_ID)
                }
            },
            (Names::Group, Key::Name(name)) => self.refusal(Resource::Group(utf8(&name)), None),
            (Names::Transaction, Key::Name(name)) => {
                self.refusal(Resource::TransactionalId(utf8(&name)), None)
            }
            (Names::Coordinator, Key::Name(name)) => self.coordinator(utf8(&name), key_type),
            (Names::Group | Names::Transaction | Names::Coordinator, Key::Id(_)) => Some(error::CLUSTER),
        }
    }

    /// DescribeConfigs and its like: 2 is a topic, 32 a group, the rest are the cluster's.
    fn config(&mut self, asked: &Value, layout: &Layout) -> Option<i16> {
        let name = asked.get(layout, "ResourceName").as_text().unwrap_or_default().to_owned();
        match asked.get(layout, "ResourceType").as_int() {
            Some(2) => self.refusal(Resource::Topic(&name), None),
            Some(32) => self.refusal(Resource::Group(&name), None),
            _ => self.refusal(Resource::Cluster, None),
        }
    }

    /// Groups that each have a list of their own.
    pub(super) fn scopes(&mut self, scope: &'static str, request: &mut Value, edit: &mut Edit) -> Left {
        let (from, to) = (&self.message.request, &self.message.response);
        let Some((inside, answered)) = from.inside(scope).zip(to.inside(scope)) else {
            return Left::All;
        };
        let Some(entries) = answer::entries_in(self.api, inside, self.version) else {
            return Left::All;
        };
        let asked = request.get_mut(from, scope).map(Value::take_elements).unwrap_or_default();
        let (mut slots, mut kept, mut denied) = (Vec::new(), Vec::new(), false);
        for mut one in asked {
            let group = one.get(inside, "GroupId").as_text().unwrap_or_default().to_owned();
            if let Some(code) = self.refusal(Resource::Group(&group), None) {
                let mut answer = Value::empty(answered);
                answer.set(answered, "GroupId", Value::text(&group));
                answer::set_error(&mut answer, answered, code);
                slots.push((Slot::Denied(answer), Vec::new()));
                denied = true;
                continue;
            }
            let key = Slot::Forwarded(Key::Name(group.clone().into()));
            if *one.get(inside, entries.request) == Value::Null {
                edit.shown = Some(self.api.shown);
                slots.push((key, Vec::new()));
                kept.push(one);
                continue;
            }
            let topics = one.get_mut(inside, entries.request).map(Value::take_elements);
            let topics = topics.unwrap_or_default();
            let (inner, left) = self.slots(entries, inside, answered, topics, Some(&group), 0, edit);
            let refused = inner.iter().any(|slot| matches!(slot, Slot::Denied(_)));
            one.set(inside, entries.request, Value::Array(left));
            kept.push(one);
            slots.push((key, if refused { inner } else { Vec::new() }));
            denied |= refused;
        }
        // A group whose topics are all denied is still asked: its own error is the broker's to say.
        let left = Left::of(kept.len(), denied);
        if let Some(list) = request.get_mut(from, scope) {
            *list = Value::Array(kept);
        }
        if denied {
            let inner = entries.response;
            edit.merge = Some(Merge::Scopes { response: scope, inner, slots });
        }
        left
    }
}

/// What is left of a request's entries.
#[derive(Clone, Copy)]
pub(super) enum Left {
    All,
    Some,
    None,
}

impl Left {
    fn of(kept: usize, denied: bool) -> Self {
        match (kept, denied) {
            (_, false) => Self::All,
            (0, true) => Self::None,
            (_, true) => Self::Some,
        }
    }
}

/// Whether the request asks for whatever there is.
fn is_all(api: &Api, version: i16, list: &Value) -> bool {
    let empty = list.elements().is_empty();
    match api.key {
        api::METADATA => *list == Value::Null || version == 0 && empty,
        api::DESCRIBE_TOPIC_PARTITIONS => empty,
        _ => *list == Value::Null,
    }
}

fn utf8(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

//! Which name a topic id stands for, as the broker of this connection has told.

use std::collections::HashMap;

use super::{schema::Message, value::Value};

pub(super) type TopicId = [u8; 16];

/// An id is never given to another topic, so what was learned stays true.
#[derive(Debug, Default)]
pub(super) struct TopicIds {
    names: HashMap<TopicId, Box<str>>,
    /// Octets of the names.
    octets: usize,
}

impl TopicIds {
    pub(super) fn name(&self, id: TopicId) -> Option<&str> {
        self.names.get(&id).map(AsRef::as_ref)
    }

    /// Octets that it takes, about.
    pub(super) fn octets(&self) -> usize {
        const ENTRY: usize = 64;
        self.octets + self.names.len() * ENTRY
    }

    /// Learns from an answer that describes topics. More than `most` are forgotten all at once; what is
    /// needed again is asked again.
    pub(super) fn learn(&mut self, message: &Message, answer: &Value, most: usize) {
        let layout = &message.response;
        let Some(topic) = layout.inside("Topics") else { return };
        for one in answer.get(layout, "Topics").elements() {
            let (id, name) = (one.get(topic, "TopicId").as_uuid(), one.get(topic, "Name").as_text());
            if let (Some(id), Some(name)) = (id, name)
                && id != [0; 16]
                && one.get(topic, "ErrorCode").as_int() == Some(0)
            {
                if self.names.len() >= most {
                    (self.names, self.octets) = (HashMap::new(), 0);
                }
                let before = self.names.insert(id, name.into());
                self.octets = (self.octets + name.len()).saturating_sub(before.map_or(0, |name| name.len()));
            }
        }
    }
}

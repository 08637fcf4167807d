//! Header fields as rules see and change them.

use http::{HeaderMap, HeaderName, HeaderValue};
use policy_engine::http::{HeaderAction, Headers};

/// A request's header fields.
#[derive(Clone)]
pub(super) struct Fields(pub(super) HeaderMap);

impl Headers for Fields {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        FieldsOf(&self.0).for_each(name, value);
    }
}

/// The header fields of a request that is not taken apart yet.
pub(crate) struct FieldsOf<'a>(pub(crate) &'a HeaderMap);

impl Headers for FieldsOf<'_> {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for found in self.0.get_all(name) {
            value(found.as_bytes());
        }
    }
}

impl Fields {
    pub(super) fn apply(&mut self, action: &HeaderAction) {
        match action {
            HeaderAction::Log { .. } => {}
            HeaderAction::Add { name, value } => {
                if let Some((name, value)) = field(name, value) {
                    self.0.append(name, value);
                }
            }
            HeaderAction::Replace { name, value } => {
                if let Some((name, value)) = field(name, value) {
                    self.0.insert(name, value);
                }
            }
            HeaderAction::Delete { name } => {
                self.0.remove(name);
            }
        }
    }
}

/// Always `Some`: an update with anything else was refused (`policy::rules`).
fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

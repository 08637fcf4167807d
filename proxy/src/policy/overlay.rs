//! Maps that many versions share: a version that differs in a few entries holds only those itself.

use std::{collections::HashMap, sync::Arc};

/// By number. Cloning costs what the last few versions changed, not what the map holds.
#[derive(Clone)]
pub(super) struct Overlay<V> {
    base: Arc<HashMap<u32, V>>,
    /// Entries that differ from `base`; `None`: not there.
    changed: HashMap<u32, Option<V>>,
}

/// Changes that are carried along before a new base is made of them.
const CARRIED: usize = 32;

impl<V> Default for Overlay<V> {
    fn default() -> Self {
        Self { base: Arc::default(), changed: HashMap::new() }
    }
}

impl<V> FromIterator<(u32, V)> for Overlay<V> {
    fn from_iter<I: IntoIterator<Item = (u32, V)>>(entries: I) -> Self {
        Self { base: Arc::new(entries.into_iter().collect()), changed: HashMap::new() }
    }
}

impl<V: Clone> Overlay<V> {
    pub(super) fn get(&self, key: u32) -> Option<&V> {
        // Mostly there is nothing to ask.
        if !self.changed.is_empty()
            && let Some(changed) = self.changed.get(&key)
        {
            return changed.as_ref();
        }
        self.base.get(&key)
    }

    /// `None` removes.
    pub(super) fn set(&mut self, key: u32, value: Option<V>) {
        self.changed.insert(key, value);
        // A new base costs what it holds, so it is due once as much of it has changed.
        if self.changed.len() > CARRIED + self.base.len() / 4 {
            let mut base = HashMap::clone(&self.base);
            for (key, value) in self.changed.drain() {
                match value {
                    Some(value) => drop(base.insert(key, value)),
                    None => drop(base.remove(&key)),
                }
            }
            self.base = Arc::new(base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_differ_and_stay_as_they_were() {
        let first: Overlay<u32> = (0..100).map(|number| (number, number)).collect();
        let mut last = first.clone();
        for key in 0..100 {
            last.set(key, (key % 3 != 0).then_some(key + 1));
            for asked in 0..120 {
                assert_eq!(first.get(asked).copied(), (asked < 100).then_some(asked));
                let expected = match asked {
                    _ if asked >= 100 => None,
                    _ if asked > key => Some(asked),
                    _ => (asked % 3 != 0).then_some(asked + 1),
                };
                assert_eq!(last.get(asked).copied(), expected, "{key} {asked}");
            }
        }
        last.set(0, Some(7));
        assert_eq!(last.get(0), Some(&7));
    }
}

//! DNS names and patterns, of `toFQDNs` and of DNS rules.

use super::cursor::{At, Findings};
use crate::model::FqdnSelector;

const LONGEST: usize = 255;

/// One `{matchName: …}` or `{matchPattern: …}`. Names are made lower case and lose their final dot.
pub(super) fn read(at: &At<'_>, f: &mut Findings) -> Option<FqdnSelector> {
    let object = at.object(&["matchName", "matchPattern"], f)?;
    match (object.has("matchName"), object.has("matchPattern")) {
        (true, false) => {
            let name = object.get("matchName", f)?;
            let text = name.string(f)?;
            if !is_pattern(text) || text.contains('*') {
                let hint = if text.contains('*') { "; write it as matchPattern" } else { "" };
                f.problem(&name.path, format!("{text:?} is no DNS name{hint}"));
            }
            Some(FqdnSelector::Name(normal(text)))
        }
        (false, true) => {
            let pattern = object.get("matchPattern", f)?;
            let text = pattern.string(f)?;
            if !is_pattern(text) {
                f.problem(&pattern.path, format!("{text:?} is no DNS name with '*'"));
            }
            Some(FqdnSelector::Pattern(normal(text)))
        }
        (given, _) => {
            let found = if given { "both are there" } else { "none is there" };
            f.problem(&at.path, format!("takes exactly one of matchName and matchPattern; {found}"));
            None
        }
    }
}

/// Parts of letters, digits, '-', '_' and '*', with single dots after them.
pub(super) fn is_pattern(text: &str) -> bool {
    let parts = text.strip_suffix('.').unwrap_or(text);
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*');
    text.len() <= LONGEST && parts.split('.').all(|part| !part.is_empty() && part.bytes().all(character))
}

fn normal(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

//! Regular expressions in RE2's syntax, read by `regex-syntax`.
//!
//! The two syntaxes agree on almost everything that path and method rules use. Where the same text
//! would mean something else, it is given RE2's meaning (`\d`, `\w`, `\s`, `\b` are ASCII, `\<` is a
//! literal) or refused (set operations and nested sets inside brackets, flags that RE2 lacks).

use regex_automata::{meta, nfa::thompson};
use regex_syntax::{
    ast,
    hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, translate::TranslatorBuilder},
};

mod re2;

/// Says whether the pattern is one that a rule may use, and if not, why.
///
/// # Errors
/// The reason in words, without the pattern.
pub fn check(pattern: &str) -> Result<(), String> {
    let config = thompson::Config::new().nfa_size_limit(Some(SIZE_LIMIT)).utf8(false);
    match thompson::Compiler::new().configure(config).build_from_hir(&parse(pattern)?) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("takes more than {SIZE_LIMIT} octets once compiled")),
    }
}

/// Matches the whole text with this one pattern. For tests and explanations; a set of rules goes
/// through [`crate::http::HttpRules`].
///
/// # Errors
/// The reason why the pattern is none.
pub fn is_full_match(pattern: &str, text: &str) -> Result<bool, String> {
    let whole = Hir::concat(vec![Hir::look(Look::Start), parse(pattern)?, Hir::look(Look::End)]);
    let regex = meta::Regex::builder().build_from_hir(&whole).map_err(|error| error.to_string())?;
    Ok(regex.is_match(text))
}

/// Largest NFA of one pattern, in octets: small beside what a whole set may take.
const SIZE_LIMIT: usize = 1 << 20;
/// Deepest nesting of groups and repetitions.
const NEST_LIMIT: u32 = 100;

/// The pattern's meaning, for texts that are valid UTF-8.
pub(crate) fn parse(pattern: &str) -> Result<Hir, String> {
    let mut parser = ast::parse::ParserBuilder::new();
    let mut ast = parser.nest_limit(NEST_LIMIT).build().parse(pattern).map_err(|e| e.kind().to_string())?;
    ast::visit(&ast, re2::Refusals)?;
    re2::give_meaning(&mut ast);
    let hir = TranslatorBuilder::new()
        .utf8(true)
        .build()
        .translate(pattern, &ast)
        .map_err(|error| error.kind().to_string())?;
    Ok(ascii_boundaries(hir))
}

/// `\b` looks at ASCII words only.
fn ascii_boundaries(hir: Hir) -> Hir {
    map_looks(hir, &|look| match look {
        Look::WordUnicode => Look::WordAscii,
        Look::WordUnicodeNegate => Look::WordAsciiNegate,
        other => other,
    })
}

/// Replaces assertions, wherever they stand.
pub(crate) fn map_looks(hir: Hir, map: &impl Fn(Look) -> Look) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(map(look)),
        HirKind::Repetition(mut repetition) => {
            repetition.sub = Box::new(map_looks(*repetition.sub, map));
            Hir::repetition(repetition)
        }
        HirKind::Capture(mut capture) => {
            capture.sub = Box::new(map_looks(*capture.sub, map));
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(|part| map_looks(part, map)).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.into_iter().map(|part| map_looks(part, map)).collect())
        }
    }
}

/// Any number of any octets but `excluded`.
pub(crate) fn anything_but(excluded: u8) -> Hir {
    let below = excluded.checked_sub(1).map(|last| ClassBytesRange::new(0, last));
    let above = excluded.checked_add(1).map(|first| ClassBytesRange::new(first, 0xff));
    let class = Hir::class(Class::Bytes(ClassBytes::new(below.into_iter().chain(above))));
    Hir::repetition(regex_syntax::hir::Repetition { min: 0, max: None, greedy: true, sub: Box::new(class) })
}

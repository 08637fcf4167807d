//! Where RE2 and `regex-syntax` part: what is refused, and what gets RE2's meaning.

use regex_syntax::ast::{self, Ast, ClassSetItem};

/// RE2's own bound on `{n,m}`.
const REPEAT_LIMIT: u32 = 1000;

/// Walks the syntax tree and refuses what RE2 would read differently.
pub(super) struct Refusals;

impl ast::Visitor for Refusals {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, node: &Ast) -> Result<(), String> {
        match node {
            Ast::Flags(flags) => known_flags(&flags.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), known_flags),
            Ast::Repetition(repetition) => match repetition.op.kind {
                ast::RepetitionKind::Range(ref range) => {
                    let most = match *range {
                        ast::RepetitionRange::Exactly(n) | ast::RepetitionRange::AtLeast(n) => n,
                        ast::RepetitionRange::Bounded(_, n) => n,
                    };
                    if most > REPEAT_LIMIT {
                        return Err(format!("repetition of more than {REPEAT_LIMIT} times"));
                    }
                    Ok(())
                }
                _ => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::WordBoundaryStart
                | ast::AssertionKind::WordBoundaryEnd
                | ast::AssertionKind::WordBoundaryStartHalf
                | ast::AssertionKind::WordBoundaryEndHalf => {
                    Err("\\b{…} is no word boundary of RE2".to_owned())
                }
                _ => Ok(()),
            },
            Ast::Literal(literal) => known_literal(literal),
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Bracketed(_) => Err("a set inside a set; write \\[ for the character".to_owned()),
            ClassSetItem::Literal(literal) => known_literal(literal),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err("&&, -- or ~~ inside a set; escape the second character".to_owned())
    }
}

fn known_literal(literal: &ast::Literal) -> Result<(), String> {
    match literal.kind {
        ast::LiteralKind::HexFixed(ast::HexLiteralKind::X)
        | ast::LiteralKind::HexBrace(ast::HexLiteralKind::X) => Ok(()),
        ast::LiteralKind::HexFixed(_) | ast::LiteralKind::HexBrace(_) => {
            Err("\\u and \\U; write \\x{…}".to_owned())
        }
        _ => Ok(()),
    }
}

fn known_flags(flags: &ast::Flags) -> Result<(), String> {
    use ast::{Flag, FlagsItemKind};
    let unknown = |kind: &FlagsItemKind| {
        matches!(kind, FlagsItemKind::Flag(Flag::Unicode | Flag::IgnoreWhitespace | Flag::CRLF))
    };
    if flags.items.iter().any(|item| unknown(&item.kind)) {
        return Err("the flags are i, m, s and U".to_owned());
    }
    Ok(())
}

/// Puts ASCII classes for `\d`, `\s` and `\w`, and the characters for `\<` and `\>`.
pub(super) fn give_meaning(node: &mut Ast) {
    match node {
        Ast::ClassPerl(perl) => {
            let span = perl.span;
            let kind = ast::ClassSet::Item(ascii_class(perl));
            *node = Ast::class_bracketed(ast::ClassBracketed { span, negated: false, kind });
        }
        Ast::Assertion(assertion) => match assertion.kind {
            ast::AssertionKind::WordBoundaryStartAngle => *node = literal(assertion.span, '<'),
            ast::AssertionKind::WordBoundaryEndAngle => *node = literal(assertion.span, '>'),
            _ => {}
        },
        Ast::ClassBracketed(set) => {
            if let ast::ClassSet::Item(item) = &mut set.kind {
                give_item_meaning(item);
            }
        }
        Ast::Repetition(repetition) => give_meaning(&mut repetition.ast),
        Ast::Group(group) => give_meaning(&mut group.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(give_meaning),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(give_meaning),
        _ => {}
    }
}

fn give_item_meaning(item: &mut ClassSetItem) {
    match item {
        ClassSetItem::Perl(perl) => *item = ascii_class(perl),
        ClassSetItem::Union(union) => union.items.iter_mut().for_each(give_item_meaning),
        _ => {}
    }
}

fn ascii_class(perl: &ast::ClassPerl) -> ClassSetItem {
    let kind = match perl.kind {
        ast::ClassPerlKind::Digit => ast::ClassAsciiKind::Digit,
        ast::ClassPerlKind::Space => ast::ClassAsciiKind::Space,
        ast::ClassPerlKind::Word => ast::ClassAsciiKind::Word,
    };
    ClassSetItem::Ascii(ast::ClassAscii { span: perl.span, kind, negated: perl.negated })
}

fn literal(span: ast::Span, c: char) -> Ast {
    Ast::literal(ast::Literal { span, kind: ast::LiteralKind::Superfluous, c })
}

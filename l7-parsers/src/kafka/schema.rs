//! The layout of every message, read once from `kafka-messages/messages.txt`.

use std::sync::LazyLock;

/// A range of versions, both ends included; empty where `first > last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub(super) const NONE: Self = Self { first: 1, last: 0 };

    pub fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// `4-18`, `12+`, `3`, `none`
    fn read(text: &str) -> Self {
        let number = |text: &str| text.parse().expect("a version in messages.txt");
        match (text.split_once('-'), text.strip_suffix('+')) {
            _ if text == "none" => Self::NONE,
            (Some((first, last)), _) => Self { first: number(first), last: number(last) },
            (None, Some(first)) => Self { first: number(first), last: i16::MAX },
            (None, None) => Self { first: number(text), last: number(text) },
        }
    }
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) key: i16,
    pub(super) name: &'static str,
    pub(super) versions: Versions,
    pub(super) flexible: Versions,
    pub(super) request: Layout,
    pub(super) response: Layout,
}

/// Fields in the order of the wire.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) versions: Versions,
    pub(super) nullable: Versions,
    /// Number, and the versions where the field is in the tagged section.
    pub(super) tag: Option<(u32, Versions)>,
    /// As in messages.txt; without one it is zero, empty or false.
    pub(super) default: Option<&'static str>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    Text,
    /// `bytes` and `records`
    Octets,
    Struct(Layout),
    Array(Box<Kind>),
}

impl Layout {
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// Index of the field, where the version has it.
    pub(super) fn index_in(&self, name: &str, version: i16) -> Option<usize> {
        self.index(name).filter(|&at| self.fields[at].versions.contains(version))
    }

    /// Layout of the elements of an array field, or of a struct field.
    pub(super) fn inside(&self, name: &str) -> Option<&Layout> {
        self.fields[self.index(name)?].kind.layout()
    }
}

impl Kind {
    pub(super) fn layout(&self) -> Option<&Layout> {
        match self {
            Self::Struct(layout) => Some(layout),
            Self::Array(element) => element.layout(),
            _ => None,
        }
    }

    fn read(word: &str, inner: Layout) -> Self {
        if let Some(element) = word.strip_prefix("[]") {
            return Self::Array(Box::new(Self::read(element, inner)));
        }
        match word {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::Text,
            "bytes" | "records" => Self::Octets,
            "struct" => Self::Struct(inner),
            other => panic!("messages.txt has the type {other}"),
        }
    }
}

static MESSAGES: LazyLock<Vec<Message>> =
    LazyLock::new(|| read(include_str!("../../kafka-messages/messages.txt")));

pub(super) fn messages() -> &'static [Message] {
    &MESSAGES
}

pub(super) fn message(key: i16) -> Option<&'static Message> {
    let at = MESSAGES.binary_search_by_key(&key, |message| message.key).ok()?;
    Some(&MESSAGES[at])
}

fn read(text: &'static str) -> Vec<Message> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    let mut messages = Vec::new();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        let [">", key, name, versions, flexible] = words[..] else { panic!("messages.txt: {line}") };
        let request = read_fields(&mut lines, 1);
        lines.next().filter(|line| line.starts_with("< ")).expect("a response after each request");
        messages.push(Message {
            key: key.parse().expect("a number in messages.txt"),
            name,
            versions: Versions::read(versions),
            flexible: Versions::read(flexible),
            request,
            response: read_fields(&mut lines, 1),
        });
    }
    messages
}

fn read_fields(lines: &mut std::iter::Peekable<impl Iterator<Item = &'static str>>, depth: usize) -> Layout {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut layout = Layout::default();
    while let Some(line) = lines.next_if(|line| indent(line) == depth) {
        let mut words = line.trim_start_matches(' ').split(' ');
        let mut word = || words.next().expect("name, type, versions");
        let (name, kind, versions) = (word(), word(), Versions::read(word()));
        let (mut nullable, mut tag, mut default) = (Versions::NONE, None, None);
        for attribute in words {
            match attribute.split_once(':').expect("a named attribute") {
                ("null", versions) => nullable = Versions::read(versions),
                ("default", value) => default = Some(value),
                ("tag", rest) => {
                    let (number, versions) = rest.split_once(':').expect("tag:number:versions");
                    tag = Some((number.parse().expect("a tag number"), Versions::read(versions)));
                }
                _ => panic!("messages.txt: {line}"),
            }
        }
        let kind = Kind::read(kind, read_fields(lines, depth + 1));
        layout.fields.push(Field { name, kind, versions, nullable, tag, default });
    }
    layout
}

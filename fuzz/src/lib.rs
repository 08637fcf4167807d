//! Fuzz targets: one file each, a function from any bytes to a panic or none.
//!
//! libFuzzer calls them from `fuzz_targets/`; `tests/replay.rs` calls them with the committed
//! inputs, on any compiler. A target does not only look for panics: it holds what it tests against
//! a second, plainer reading of the same bytes.

pub mod antispoof;
pub mod authority;
pub mod chunked;
pub mod conntrack;
pub mod cut;
pub mod documents;
pub mod draw;
pub mod engines;
pub mod http1;
pub mod http_rules;
pub mod packet;
pub mod path;

/// A target's name (of its file, its program and its folders of inputs) and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("antispoof", antispoof::run),
    ("authority", authority::run),
    ("chunked", chunked::run),
    ("conntrack", conntrack::run),
    ("documents", documents::run),
    ("engines", engines::run),
    ("http1", http1::run),
    ("http_rules", http_rules::run),
    ("packet", packet::run),
    ("path", path::run),
];

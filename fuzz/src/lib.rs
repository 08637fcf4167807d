//! Fuzz targets: one file each, a function from any bytes to a panic or none.
//!
//! libFuzzer calls them from `fuzz_targets/`; `tests/replay.rs` calls them with the committed
//! inputs, on any compiler. A target does not only look for panics: it holds what it tests against
//! a second, plainer reading of the same bytes.

pub mod antispoof;
pub mod api;
pub mod authority;
pub mod chunked;
pub mod cidr;
pub mod config;
pub mod conntrack;
pub mod cut;
pub mod detect;
pub mod documents;
pub mod draw;
pub mod enforced;
pub mod engines;
pub mod events;
pub mod flow_journal;
pub mod grpc;
pub mod hpack;
pub mod http1;
pub mod http1_forward;
pub mod http1_response;
pub mod http2_forward;
pub mod http2_frames;
pub mod http_rules;
pub mod kafka;
pub mod lab;
pub mod link_policy;
pub mod link_records;
pub mod packet;
pub mod path;
pub mod records;
pub mod selector;
pub mod state_files;
pub mod test_file;

/// A target's name (of its file, its program and its folders of inputs) and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("antispoof", antispoof::run),
    ("api", api::run),
    ("authority", authority::run),
    ("chunked", chunked::run),
    ("cidr", cidr::run),
    ("config", config::run),
    ("conntrack", conntrack::run),
    ("detect", detect::run),
    ("documents", documents::run),
    ("enforced", enforced::run),
    ("engines", engines::run),
    ("events", events::run),
    ("flow_journal", flow_journal::run),
    ("grpc", grpc::run),
    ("hpack", hpack::run),
    ("http1", http1::run),
    ("http1_forward", http1_forward::run),
    ("http1_response", http1_response::run),
    ("http2_forward", http2_forward::run),
    ("http2_frames", http2_frames::run),
    ("http_rules", http_rules::run),
    ("kafka", kafka::run),
    ("link_policy", link_policy::run),
    ("link_records", link_records::run),
    ("packet", packet::run),
    ("path", path::run),
    ("selector", selector::run),
    ("state_files", state_files::run),
    ("test_file", test_file::run),
];

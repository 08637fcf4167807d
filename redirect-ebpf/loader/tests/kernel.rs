//! The programs in the running kernel, with real packets between network namespaces. Needs root.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod kernel {
    mod antispoof;
    mod conntrack;
    mod events;
    mod fragments;
    mod handover;
    mod host;
    mod hostile;
    mod lifecycle;
    mod policy;
    mod proxy;
    mod raw;
    mod steering;
    mod tap;
    mod test_run;
    mod world;
}

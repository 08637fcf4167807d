//! The programs in the running kernel, with real packets between network namespaces. Needs root.

mod kernel {
    mod antispoof;
    mod conntrack;
    mod fragments;
    mod host;
    mod lifecycle;
    mod policy;
    mod proxy;
    mod raw;
    mod steering;
    mod world;
}

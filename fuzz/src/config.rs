//! The agent's configuration file: refused, or settings that can work.

use std::{cell::RefCell, fs};

use tektin::entrances::AgentArgs;
use tempfile::NamedTempFile;

thread_local! {
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    let file = FILE.take().unwrap_or_else(|| NamedTempFile::new().expect("a file"));
    fs::write(file.path(), data).expect("room for it");
    let arguments = AgentArgs { config: Some(file.path().to_owned()), ..AgentArgs::default() };
    let resolved = arguments.resolve();
    FILE.set(Some(file));
    let Ok(config) = resolved else { return };
    let (pool4, pool6) = (config.pool4, config.pool6);
    assert!((1..=30).contains(&pool4.prefix_len()) && (1..=126).contains(&pool6.prefix_len()));
    assert_eq!((pool4.trunc(), pool6.trunc()), (pool4, pool6));
    assert!(!pool4.addr().is_loopback() && !pool4.addr().is_multicast());
    assert!(!pool6.addr().is_multicast() && pool6.addr().to_ipv4_mapped().is_none());
    assert!(std::str::from_utf8(data).is_ok());
}

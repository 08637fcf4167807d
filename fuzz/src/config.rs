//! The agent's configuration file: refused, or settings that can work.

use std::io::Write;

use tektin::entrances::AgentArgs;

pub fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("room for it");
    let arguments = AgentArgs { config: Some(file.path().to_owned()), ..AgentArgs::default() };
    let Ok(config) = arguments.resolve() else { return };
    let (pool4, pool6) = (config.pool4, config.pool6);
    assert!((1..=30).contains(&pool4.prefix_len()) && (1..=126).contains(&pool6.prefix_len()));
    assert_eq!((pool4.trunc(), pool6.trunc()), (pool4, pool6));
    assert!(!pool4.addr().is_loopback() && !pool4.addr().is_multicast());
    assert!(!pool6.addr().is_multicast() && pool6.addr().to_ipv4_mapped().is_none());
    assert!(std::str::from_utf8(data).is_ok());
}

//! Small Python programs that no packaged client replaces: raw packets and odd sockets.

use std::time::Duration;

use crate::netlab::{Lab, Namespace, process::Finished};

/// Runs a Python text in a namespace to its end.
pub fn python(lab: &Lab, ns: &Namespace, text: &str, args: &[&str]) -> Finished {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let file = lab.dir().join(format!("script-{}.py", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, text).expect("a script");
    let mut command = ns.command("python3");
    command.arg(file).args(args);
    crate::netlab::process::run(command, Duration::from_secs(60))
}

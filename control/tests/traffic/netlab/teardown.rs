//! The end of a lab. Runs on success, on failure and while panicking.

use std::{fs, process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{LIMIT, Lab, Namespace, leaks, process::run};

impl Drop for Lab {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("--- the end of {}'s agent log\n{}\n---", self.tag, self.agent_log_tail());
        }
        let namespaces = std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(|e| e.into_inner()));
        // The agent first: it would start its proxy again.
        if let Some(mut agent) = self.agent.lock().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = agent.0.kill();
            let _ = agent.0.wait();
        }
        for namespace in &namespaces {
            remove(namespace);
        }
        remove_pins(&self.pin_dir());
        let _ = fs::remove_dir_all(self.dir.path());
        let leaked = leaks::of(self);
        if failed {
            eprintln!("leaked: {leaked:?}");
        } else {
            assert!(leaked.is_empty(), "{} leaked: {leaked:#?}", self.tag);
        }
    }
}

/// Ends every process in the namespace, then deletes it, and with it its devices, rules and routes.
fn remove(namespace: &Namespace) {
    for _ in 0..200 {
        let pids = namespace.pids();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut command = Command::new("ip");
    command.args(["netns", "delete", namespace.name()]);
    let _ = run(command, LIMIT);
}

/// bpffs has no recursive delete of its own, and its files cannot be truncated: plain unlinks.
fn remove_pins(dir: &std::path::Path) {
    let _ = fs::remove_dir_all(dir);
}

/// Removes what runs left behind that were killed before they could (their process is gone).
pub(super) fn sweep_abandoned() {
    let abandoned = |name: &str| {
        let Some(pid) = name.strip_prefix("tt-").and_then(|rest| rest.split('-').next()) else {
            return false;
        };
        pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists()
    };
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if abandoned(&name) {
            remove(&Namespace::named(name));
        }
    }
    for entry in fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix("tektin-test-").is_some_and(abandoned) {
            remove_pins(&entry.path());
        }
    }
}

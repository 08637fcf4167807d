//! The few kernel settings that forwarding needs. `/proc/sys/net` shows the caller's namespace.

use std::{fs, io, path::Path};

use super::NodeError;

pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
        && read("net/ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "0")
}

/// Switches forwarding on and returns what was changed.
pub(super) fn enable_forwarding(ipv6: bool) -> Result<Vec<String>, NodeError> {
    let mut changed = Vec::new();
    change("net/ipv4/ip_forward", "1", &mut changed)?;
    if ipv6 {
        if read("net/ipv6/conf/all/forwarding").map_err(failed("net/ipv6/conf/all/forwarding"))? != "1" {
            keep_router_advertisements(&mut changed)?;
        }
        change("net/ipv6/conf/all/forwarding", "1", &mut changed)?;
    }
    Ok(changed)
}

/// A forwarding host ignores router advertisements unless told otherwise: an uplink that got its
/// default route from one would lose it.
fn keep_router_advertisements(changed: &mut Vec<String>) -> Result<(), NodeError> {
    let root = "net/ipv6/conf";
    let devices = fs::read_dir(Path::new("/proc/sys").join(root)).map_err(failed(root))?;
    for device in devices.flatten() {
        let device = device.file_name().to_string_lossy().into_owned();
        let name = format!("{root}/{device}/accept_ra");
        if device != "all" && device != "lo" && read(&name).is_ok_and(|value| value == "1") {
            change(&name, "2", changed)?;
        }
    }
    Ok(())
}

/// No link-local address of the kernel's own choice, no duplicate address detection, no router
/// advertisements: the device speaks when spoken to.
pub(super) fn quiet_ipv6(device: &str) -> Result<(), NodeError> {
    for (name, value) in
        [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0")]
    {
        let name = format!("net/ipv6/conf/{device}/{name}");
        set(&name, value).map_err(failed(&name))?;
    }
    Ok(())
}

fn change(name: &str, value: &str, changed: &mut Vec<String>) -> Result<(), NodeError> {
    if read(name).map_err(failed(name))? == value {
        return Ok(());
    }
    set(name, value).map_err(failed(name))?;
    changed.push(format!("{} = {value}", name.replace('/', ".")));
    Ok(())
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys").join(name))?.trim().to_owned())
}

/// Writes one setting of the calling thread's namespace, by its path below `/proc/sys`.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value)
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> NodeError {
    let name = name.replace('/', ".");
    move |source| NodeError::Sysctl { name, source }
}

//! Builds the eBPF programs for the kernel's virtual machine and leaves the object in `OUT_DIR`,
//! so that a plain `cargo build` gives a working binary.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const BPF_LINKER: &str = "cargo install bpf-linker --version 0.10.3 --locked";
const RUST_SRC: &str = "rustup component add rust-src";
const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let programs = manifest.join("../programs");
    for watched in ["../programs", "../abi/src", "../abi/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", manifest.join(watched).display());
    }
    println!("cargo:rerun-if-env-changed=PATH");
    require_rust_src();
    require_bpf_linker();

    let target_dir = out.join("ebpf");
    build(&programs, &target_dir);
    let object = target_dir.join(TARGET).join("release/tektin-ebpf");
    if let Err(error) = std::fs::copy(&object, out.join("tektin.bpf.o")) {
        fail(&format!("cannot copy {}: {error}", object.display()));
    }
}

fn build(programs: &Path, target_dir: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    // What the outer cargo, or clippy around it, tells its own compiler is not meant for this one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let leaks = name.starts_with("CARGO_") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET_");
        if leaks || name.starts_with("RUSTC") || name == "RUSTFLAGS" || name == "RUSTDOCFLAGS" {
            cargo.env_remove(&name);
        }
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    let status = cargo
        .current_dir(programs)
        .args(["build", "--package", "tektin-ebpf", "--release", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target_dir)
        // The standard library for this target is built from source, which stable keeps behind a switch.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The workspace's release profile is for the host: BPF has no unwinding, and the verifier
        // needs everything inlined into few functions.
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the eBPF programs did not build ({status}); see the messages above")),
        Err(error) => fail(&format!("cannot run cargo for the eBPF programs: {error}")),
    }
}

fn require_rust_src() {
    let output = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let sysroot = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => fail("cannot ask rustc for its sysroot"),
    };
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir() {
        fail(&format!(
            "the Rust standard library's source is missing (it is compiled for eBPF). Install it:\n\n    {RUST_SRC}\n"
        ));
    }
}

fn require_bpf_linker() {
    match Command::new("bpf-linker").arg("--version").output() {
        Ok(output) if output.status.success() => {}
        _ => fail(&format!("bpf-linker is missing or does not run. Install it:\n\n    {BPF_LINKER}\n")),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}")))
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}

//! `tektin version`.

use clap::Args;
use serde::Serialize;

use super::{
    error::CliError,
    output::{Out, cell},
};

/// The version of this program
#[derive(Args, Debug)]
pub struct VersionCommand {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// Layout of the kernel's tables; agents of another one do not take them over.
    pins: &'static str,
    api: &'static str,
}

impl VersionCommand {
    pub fn run(self, out: &Out) -> Result<(), CliError> {
        let version =
            Version { version: env!("CARGO_PKG_VERSION"), pins: tektin_abi::maps::PIN_VERSION, api: "v1" };
        let fields = vec![
            ("Version", cell(version.version)),
            ("Pins", cell(version.pins)),
            ("API", cell(version.api)),
        ];
        out.item(&version, fields)
    }
}

//! `moorfast version`

use serde_json::json;

use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// Print the version.
///
/// Prints the version and the built-in providers.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Print the version as JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let version = env!("CARGO_PKG_VERSION");
        let names: Vec<_> = invocation.providers.iter().map(|provider| provider.name()).collect();
        let platform = format!("{}_{}", std::env::consts::OS, std::env::consts::ARCH);
        invocation.ui.out(if self.json {
            format!("{:#}\n", json!({ "moorfast_version": version, "platform": platform, "providers": names }))
        } else {
            format!("moorfast v{version}\non {platform}, with the providers {}\n", names.join(", "))
        })?;
        Ok(Exit::Success)
    }
}

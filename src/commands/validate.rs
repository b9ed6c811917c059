//! `moorfast validate`

use moorfast_engine::model::{Diagnostic, Severity, Sources};
use moorfast_engine::state::EnvironmentName;

use crate::environment;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::text::{Style, styled};
use crate::render::{diagnostic, json};

const EXAMPLES: &str = r#"Examples:
  moorfast validate                        check the manifest in all of its environments
  moorfast validate --json                 print the errors for a program"#;

/// Check the manifest.
///
/// Checks the manifest: syntax, names, types, references and cycles. Does not read the state, the nodes or the clusters.
/// Needs neither values of variables nor keys of secrets. Without --env, checks the manifest in each of its environments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Validate {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inputs: Inputs,
}

impl Validate {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let (sources, found) = self.diagnostics(invocation)?;
        let valid = !found.iter().any(|d| d.severity == Severity::Error);
        if self.json {
            invocation.ui.json(format!("{:#}\n", json::diagnostics(&sources, &found)))?;
            return Ok(if valid { Exit::Success } else { Exit::Error });
        }
        if !valid {
            return Err(Error::Manifest { sources, diagnostics: found });
        }
        if !found.is_empty() {
            invocation.ui.err(diagnostic::diagnostics(&sources, &found));
        }
        let warnings = diagnostic::count(&found).map(|count| format!(" ({count})")).unwrap_or_default();
        invocation.ui.out(styled(Style::Success, "Success!") + format!(" The manifest is valid{warnings}."))?;
        Ok(Exit::Success)
    }

    /// Returns all errors and warnings of the manifest.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    fn diagnostics(&self, invocation: &Invocation) -> Result<(Sources, Vec<Diagnostic>), Error> {
        let manifest = match invocation.any_manifest() {
            Ok(manifest) => manifest,
            Err(Error::Manifest { sources, diagnostics }) => return Ok((sources, diagnostics)),
            Err(error) => return Err(error),
        };
        let names = manifest.environments.keys().cloned().map(Some);
        let environments: Vec<_> = match (&manifest.environment, names.len()) {
            (None, 1..) => names.collect(),
            (chosen, _) => {
                environment::check(&manifest)?;
                vec![chosen.clone()]
            }
        };
        let in_environment = |environment: Option<EnvironmentName>| {
            let found = invocation.diagnostics_in(&manifest, environment.clone(), &self.inputs);
            (environment, found)
        };
        let found = environment::merged(&environments.into_iter().map(in_environment).collect::<Vec<_>>());
        Ok((manifest.sources.clone(), found))
    }
}

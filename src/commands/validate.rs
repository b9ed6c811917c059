//! `moorfast validate`

use std::sync::Arc;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Diagnostic, Severity, Sources};

use crate::backend;
use crate::environment;
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::text::{Style, styled};
use crate::render::{diagnostic, json};

/// Check the manifest.
///
/// Checks the manifest: syntax, names, types, references and cycles. Does not read the state, the nodes or the clusters.
/// Needs no values of variables. Without --env, checks the manifest in each of its environments.
#[derive(Debug, clap::Args)]
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
        let mut found: Vec<Diagnostic> = Vec::new();
        for environment in environments {
            let of_environment =
                self.of_environment(invocation, Manifest::clone(&manifest).in_environment(environment));
            // Most errors are the same in each environment.
            found.extend(of_environment.into_iter().filter(|error| !found.contains(error)).collect::<Vec<_>>());
        }
        Ok((manifest.sources.clone(), found))
    }

    /// Returns all errors and warnings of the manifest in its environment.
    fn of_environment(&self, invocation: &Invocation, manifest: Manifest) -> Vec<Diagnostic> {
        let variables = match self.inputs.known_values(&manifest) {
            Ok(variables) => variables,
            Err(Error::Manifest { diagnostics, .. }) => return diagnostics,
            Err(error) => return vec![Diagnostic::error(error.to_string())],
        };
        let of_backend = backend::check(&manifest, &variables);
        let mut found = invocation.workspace_of(Arc::new(manifest), variables).validate();
        found.extend(of_backend);
        found
    }
}

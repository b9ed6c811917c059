//! The values of variables, from options, files and the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use moorfast_engine::manifest::{Assignments, Manifest};
use moorfast_engine::model::{Mark, Value};
use moorfast_engine::plan::Plan;

use crate::error::Error;

/// The sources of variable values. Later sources take precedence: MOORFAST_VAR_NAME, *.auto.vars.toml, the chosen environment, --var-file, --var.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Variables")]
pub struct Inputs {
    /// Set a variable (can be repeated); `MOORFAST_VAR_port=80` in the environment sets `port`
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// Read variables from a TOML file (can be repeated)
    #[arg(long, value_name = "FILE")]
    var_file: Vec<PathBuf>,
    /// The variables of a saved plan.
    #[arg(skip)]
    saved: BTreeMap<String, Value>,
}

impl Inputs {
    /// Adds the variables of a saved plan that are not sensitive. Values from the other sources take precedence.
    pub fn with_saved(mut self, plan: &Plan) -> Self {
        let open = |(name, value): (&String, &serde_json::Value)| {
            Mark::of(value).is_none().then(|| (name.clone(), Value::from(value.clone())))
        };
        self.saved = plan.variables.iter().filter_map(open).collect();
        self
    }

    /// Returns the values of all variables of `manifest`.
    ///
    /// # Errors
    /// If a value is missing, unknown or of the wrong type.
    pub fn values(&self, manifest: &Manifest) -> Result<BTreeMap<String, Value>, Error> {
        self.assigned(manifest, false)
    }

    /// Returns the values of all variables of `manifest`. A required variable without a value is unknown.
    ///
    /// # Errors
    /// If a value is of the wrong type, or its variable does not exist.
    pub fn known_values(&self, manifest: &Manifest) -> Result<BTreeMap<String, Value>, Error> {
        self.assigned(manifest, true)
    }

    fn assigned(&self, manifest: &Manifest, missing_is_unknown: bool) -> Result<BTreeMap<String, Value>, Error> {
        let assignments = Assignments {
            missing_is_unknown,
            environment: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            files: self.var_file.clone(),
            arguments: self.var.clone(),
        };
        let error = |diagnostics| Error::Manifest { sources: manifest.sources.clone(), diagnostics };
        if self.saved.is_empty() {
            return manifest.variables(&assignments).map_err(error);
        }
        // The saved values act as defaults. Values from other sources are compared with the plan later.
        let mut manifest = manifest.clone();
        for (name, value) in &self.saved {
            if let Some(variable) = manifest.variables.get_mut(name) {
                variable.default = Some(value.clone());
            }
        }
        manifest.variables(&assignments).map_err(error)
    }
}

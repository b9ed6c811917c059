//! The values of variables: from options, files and the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use moorfast_engine::manifest::{Assignments, Manifest};
use moorfast_engine::model::Value;
use moorfast_engine::plan::Plan;

use crate::error::Error;

/// Where the values of variables come from; what is later in this list wins: MOORFAST_VAR_NAME, *.auto.vars.toml, --var-file, --var.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Variables")]
pub struct Inputs {
    /// Set a variable; may be repeated. MOORFAST_VAR_NAME sets one from the environment
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// Take variables from a TOML file; may be repeated
    #[arg(long, value_name = "FILE")]
    var_file: Vec<PathBuf>,
    /// The values of a saved plan.
    #[arg(skip)]
    saved: BTreeMap<String, Value>,
}

impl Inputs {
    /// With the values of a saved plan, where they are not secret and nothing else is given.
    pub fn with_saved(mut self, plan: &Plan) -> Self {
        let open = |(name, value): (&String, &serde_json::Value)| {
            let hidden = value.as_object().is_some_and(moorfast_engine::model::is_mark);
            (!hidden).then(|| (name.clone(), Value::from(value.clone())))
        };
        self.saved = plan.variables.iter().filter_map(open).collect();
        self
    }

    /// The values of all variables of `manifest`.
    ///
    /// # Errors
    /// If a value is missing, unknown or of the wrong type.
    pub fn values(&self, manifest: &Manifest) -> Result<BTreeMap<String, Value>, Error> {
        let assignments = Assignments {
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
        // The saved values take the place of defaults: whatever is given by hand is checked against the plan.
        let mut manifest = manifest.clone();
        for (name, value) in &self.saved {
            if let Some(variable) = manifest.variables.get_mut(name) {
                variable.default = Some(value.clone());
            }
        }
        manifest.variables(&assignments).map_err(error)
    }
}

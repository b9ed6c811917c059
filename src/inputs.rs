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

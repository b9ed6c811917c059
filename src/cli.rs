//! The command line.

use clap::Parser;

use crate::commands::Command;
use crate::globals::Globals;

/// Manages the nodes and objects of a Kubernetes cluster with a manifest: plans changes, applies exactly what was planned, and
/// detects drift.
#[derive(Debug, Parser)]
#[command(
    name = "moorfast",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Long options are also accepted with one dash, as in Terraform: -auto-approve, -var x=y.\n\
    Exit codes: 0 success, 1 error, 2 changes (plan --detailed-exitcode) or drift (drift); docs/exit-codes.md lists all.")]
pub struct Cli {
    /// The options that all commands have.
    #[command(flatten)]
    pub globals: Globals,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

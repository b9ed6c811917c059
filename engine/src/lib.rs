//! The engine of moorfast: it loads a manifest, expands it into instances, plans the changes and applies them.
//!
//! Each module is a layer, and imports only from the layers above it in this list:
//!
//! 1. [`model`]: addresses, values, schemas, nodes and diagnostics.
//! 2. [`expression`]: expressions of a manifest, their functions and their evaluation.
//! 3. [`manifest`]: the blocks of a manifest, before their expressions are evaluated.
//! 4. [`provider`]: the interface of providers, and the catalog of their resource types.
//! 5. [`configuration`]: the instances of a manifest, their references and their dependency graph.
//! 6. [`session`]: the configured providers of a run, and its events.
//! 7. `check`: checks and health probes.
//! 8. [`plan`]: the changes that an apply would make, and their reasons.
//! 9. `policy`: policies over a plan.
//! 10. [`apply`]: the operations of a plan, and their records in the state.
//! 11. [`workspace`]: the operations behind the commands: validate, plan, apply, import.
//!
//! [`mod@reference`] generates the reference documentation and the JSON Schema from the first four layers.
//!
//! # Example
//!
//! Load a manifest from text and list its resources:
//!
//! ```
//! use moorfast_engine::manifest::Manifest;
//! use moorfast_engine::model::{SourceFile, Sources};
//!
//! let text = r#"
//!     [nodes.gpu01]
//!     address = "10.0.0.1"
//!     roles = ["worker"]
//!
//!     [resource.ssh_file.motd]
//!     on = { role = "worker" }
//!     path = "/etc/motd"
//!     content = "Welcome to ${node.name}\n"
//! "#;
//! let file = SourceFile { path: "cluster.toml".into(), text: text.to_owned() };
//! let manifest = Manifest::from_sources(".".into(), Sources { files: vec![file], ..Sources::default() }, Vec::new())
//!     .map_err(|(_, diagnostics)| format!("{diagnostics:?}"))?;
//! let resources: Vec<String> = manifest.resources.keys().map(ToString::to_string).collect();
//! assert_eq!(resources, ["ssh_file.motd"]);
//! # Ok::<(), String>(())
//! ```
//!
//! A command opens a [`workspace::Workspace`], which also evaluates the manifest and calls the providers.

pub mod apply;
mod check;
pub mod configuration;
pub mod expression;
pub mod manifest;
pub mod model;
pub mod plan;
mod policy;
pub mod provider;
pub mod reference;
pub mod session;
pub mod workspace;

pub use moorfast_state as state;

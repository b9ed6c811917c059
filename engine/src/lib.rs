//! The engine of moorfast: manifest, expressions, graph, plan and apply.
//!
//! Each module is a layer, and imports only from the layers above it in this list:
//!
//! 1. [`model`]: addresses, values, schemas, nodes and diagnostics.
//! 2. [`expression`]: the values of a manifest before they are evaluated.
//! 3. [`manifest`]: the blocks of a manifest, as they are written.
//! 4. [`provider`]: the interface of providers, and the catalog of their types.
//! 5. [`configuration`]: the manifest with its instances, their references and their graph.
//! 6. [`session`]: the configured providers of one run, and its events.
//! 7. `check`: checks and health probes.
//! 8. [`plan`]: the changes that an apply would make, with the reasons.
//! 9. `policy`: rules over the whole plan, which can deny it.
//! 10. [`apply`]: applies a plan and records the results.
//! 11. [`workspace`]: the operations that commands call: validate, plan, apply, import.
//!
//! [`mod@reference`] writes the reference documentation and the JSON Schema from the first four.

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

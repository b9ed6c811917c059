//! Tests that a provider of moorfast keeps the laws of a provider.
//!
//! A [`Case`] is a manifest for the provider, and optionally a second version of it, manifests that the provider must reject, and values that
//! must never be shown. [`check`] runs the case with the real engine, in a temporary folder and with a state of its own, from the first plan to
//! the destroy, and reports the first [`Violation`] of a [`Law`]:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use moorfast_engine::provider::Provider;
//! # async fn example(provider: Arc<dyn Provider>) -> Result<(), moorfast_conformance::Violation> {
//! let case = moorfast_conformance::Case::new(
//!     r#"
//!     [resource.example_file.motd]
//!     path    = "/tmp/motd"
//!     content = "first"
//!     "#,
//! );
//! moorfast_conformance::check(&[provider], &case).await
//! # }
//! ```
//!
//! The objects of the case are real: use a temporary folder, a namespace or a machine of the tests, and names that nobody else uses.
//!
//! [`Workbench`] is the lower layer: a manifest with its state, on which a test plans, applies and imports by itself.

mod case;
mod check;
mod declarations;
mod disclosure;
mod violation;
mod workbench;

pub use case::Case;
pub use check::check;
pub use violation::{Law, Violation};
pub use workbench::{Workbench, apply_options};

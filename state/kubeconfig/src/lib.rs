//! How a cluster is reached and who we are there, as kubectl reads it from kubeconfigs.
//!
//! [`Source::open`] gives the configuration of a client without credentials, and the [`Login`] that adds them to every request. What a kubeconfig
//! holds and what an exec plugin prints is in no error.

mod error;
mod exec;
mod files;
mod login;
mod proxy;

pub use error::{Error, Kind};
pub use files::{Access, Origin, Source};
pub use login::Login;

//! Cluster connections and credentials from kubeconfigs, read as kubectl reads them.
//!
//! [`Source::open`] returns the configuration of a client without credentials, and the [`Login`] that adds them to every request. No error contains
//! the contents of a kubeconfig or the output of an exec plugin.

mod authenticated;
mod error;
mod exec;
mod files;
mod login;
mod proxy;
mod renewal;

pub use authenticated::Authenticated;
pub use error::{Error, Kind};
pub use files::{Access, Origin, Source, is_chosen_by_user};
pub use login::Login;
pub use proxy::environment_proxy;
pub use renewal::{Renewal, RenewalLayer};

//! The codes of the errors of commands and of the state, and the list of all codes.

use std::sync::Arc;

use moorfast_engine::model::{ErrorCode, error_codes};
use moorfast_engine::provider::Provider;

moorfast_engine::error_codes! {
    /// The manifest has environments, and none is chosen.
    NO_ENVIRONMENT = "M0119";
    /// The saved plan is stale.
    STALE_PLAN = "M0204";
    /// A plan file is not signed by a trusted key.
    UNTRUSTED_PLAN = "M0205";
    /// Another run holds the lock of the state.
    STATE_LOCKED = "M0501";
    /// The state is damaged.
    STATE_DAMAGED = "M0502";
    /// The key of the state is missing.
    STATE_KEY_MISSING = "M0503";
    /// The backend of the state cannot be reached.
    STATE_UNREACHABLE = "M0504";
}

/// Returns all codes, also those of the engine and of these providers, in order.
pub fn all(providers: &[Arc<dyn Provider>]) -> Vec<ErrorCode> {
    let of_providers = providers.iter().flat_map(|provider| provider.error_codes());
    let mut codes: Vec<_> = ALL.iter().chain(error_codes::ALL).chain(of_providers).copied().collect();
    codes.sort_by_key(|code| code.as_str());
    codes
}

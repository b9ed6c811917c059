//! The HTTP client of requests that a manifest makes on this machine: checks, webhooks and data sources.

use std::error::Error;
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder};

/// Returns the builder of a client that follows no redirects. It trusts the certificate authorities of the system, or only those in `ca` (PEM).
///
/// # Errors
/// If `ca` does not contain a certificate.
pub fn http_client(timeout: Duration, ca: Option<&str>) -> Result<ClientBuilder, String> {
    // The TLS provider may be installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientBuilder::new()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("moorfast/", env!("CARGO_PKG_VERSION")));
    let Some(ca) = ca else { return Ok(builder) };
    match Certificate::from_pem_bundle(ca.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(builder.tls_certs_only(certificates)),
        _ => Err("`ca` does not contain a PEM certificate".to_owned()),
    }
}

/// Returns the root cause of an error of a client.
pub fn root_cause(error: &dyn Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    causes.pop().unwrap_or_else(|| error.to_string())
}

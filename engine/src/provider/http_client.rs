//! The HTTP client of requests that a manifest makes on this machine: checks, webhooks and data sources.

use std::error::Error;
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder, Response};

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

/// The beginning of a body.
pub struct Body {
    /// At most as many bytes as were asked for.
    pub bytes: Vec<u8>,
    /// Whether the body is longer.
    pub is_cut: bool,
}

/// Reads at most `limit` bytes of the body of a response, so that a server cannot fill the memory.
///
/// # Errors
/// If the connection fails.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Body, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            bytes.truncate(limit);
            return Ok(Body { bytes, is_cut: true });
        }
    }
    Ok(Body { bytes, is_cut: false })
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

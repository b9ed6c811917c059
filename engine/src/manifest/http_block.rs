//! The schema of `http` in checks and webhooks.

use std::sync::LazyLock;

use crate::model::{Attribute, Kind, Schema};

/// The schema of `http` in a check.
pub static HTTP: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "An HTTP request whose response is checked. Redirects are not followed.",
        [
            Attribute::required("url", Kind::String, "URL of the request: `http` or `https`."),
            Attribute::optional("method", Kind::OneOf(&["GET", "HEAD", "POST", "PUT"]), "HTTP method.").or("GET"),
            Attribute::optional("headers", Kind::map(Kind::String), "Request headers by name."),
            Attribute::optional("body", Kind::String, "Request body."),
        ]
        .into_iter()
        .chain(certificates())
        .chain([
            Attribute::optional("bearer_token", Kind::String, "Bearer token for the `Authorization` header.").secret(),
            Attribute::optional("expect_status", Kind::Any, "Expected status code, or a list of accepted codes.")
                .or(200_i64),
            Attribute::optional("expect_body", Kind::String, "Regular expression that the response body must match."),
            Attribute::optional("timeout", Kind::Duration, "Timeout of one request.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "Time to retry after an apply until the response is as expected.",
            )
            .or("0s"),
        ]),
    )
});

/// Returns the attributes for server verification and client authentication.
pub(crate) fn certificates() -> [Attribute; 3] {
    [
        Attribute::optional(
            "ca",
            Kind::String,
            "PEM certificates of the trusted authorities. Default: the authorities of the system.",
        ),
        Attribute::optional("client_certificate", Kind::String, "PEM certificate for client authentication."),
        Attribute::optional("client_key", Kind::String, "PEM private key of `client_certificate`.").secret(),
    ]
}

//! The block `http` of checks and webhooks.

use std::sync::LazyLock;

use crate::model::{Attribute, Kind, Schema};

/// What `http` of a check takes.
pub static HTTP: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "An HTTP request whose answer is checked. Redirects are not followed.",
        [
            Attribute::required("url", Kind::String, "The URL, `http` or `https`."),
            Attribute::optional("method", Kind::OneOf(&["GET", "HEAD", "POST", "PUT"]), "The method.").or("GET"),
            Attribute::optional("headers", Kind::map(Kind::String), "Headers by name."),
            Attribute::optional("body", Kind::String, "The body to send."),
        ]
        .into_iter()
        .chain(certificates())
        .chain([
            Attribute::optional("bearer_token", Kind::String, "A token for the `Authorization` header.").secret(),
            Attribute::optional(
                "expect_status",
                Kind::Any,
                "The status code, or a list of them, that the answer must have.",
            )
            .or(200_i64),
            Attribute::optional("expect_body", Kind::String, "A regular expression that must match the body."),
            Attribute::optional("timeout", Kind::Duration, "How long one request may take.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "How long to try again after an apply, until the answer is as expected.",
            )
            .or("0s"),
        ]),
    )
});

/// How a request tells whom it trusts, and who asks.
pub(crate) fn certificates() -> [Attribute; 3] {
    [
        Attribute::optional(
            "ca",
            Kind::String,
            "PEM certificates of the only authorities to trust; the system's where not written.",
        ),
        Attribute::optional("client_certificate", Kind::String, "A PEM certificate to show to the server."),
        Attribute::optional("client_key", Kind::String, "The PEM key of `client_certificate`.").secret(),
    ]
}

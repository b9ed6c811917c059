//! What `http` of a check takes.

use crate::{Attribute, Kind, Schema};

/// The schema of `http = { … }` in a check.
pub fn http_schema() -> Schema {
    let pem = |name, doc| Attribute::optional(name, Kind::String, doc);
    Schema::new(
        "A request whose response a check looks at.",
        [
            Attribute::required("url", Kind::String, "Where to ask: `https://10.0.0.1:10250/healthz`."),
            Attribute::optional(
                "method",
                Kind::OneOf(&["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
                "How to ask.",
            )
            .or("GET"),
            pem("ca", "The certificates of the authorities that are trusted besides the system's, in PEM."),
            pem("client_certificate", "The client's certificate, in PEM."),
            pem("client_key", "The key of the client's certificate, in PEM.").secret(),
            Attribute::optional("bearer_token", Kind::String, "The token to send in the `Authorization` header.")
                .secret(),
            Attribute::optional("headers", Kind::map(Kind::String), "Further headers."),
            Attribute::optional("body", Kind::String, "What to send."),
            Attribute::optional("expect_status", Kind::Integer, "The status that the response must have.").or(200_i64),
            Attribute::optional("expect_body", Kind::String, "A regular expression that the body must match."),
            Attribute::optional("timeout", Kind::Duration, "How long one request may take.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "How long to ask again until the response is as expected.",
            ),
        ],
    )
}

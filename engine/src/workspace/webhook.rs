//! Webhooks: an HTTP request that a TOML file with expressions describes.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value as Json;
use toml::de::DeTable;

use crate::check::send_request;
use crate::configuration::evaluate::conformed;
use crate::configuration::expand::Binding;
use crate::configuration::scope::{InstanceScope, Values};
use crate::expression::{Expr, Reference};
use crate::manifest::http_block::certificates;
use crate::manifest::reader::Reader;
use crate::manifest::syntax::syntax_errors;

use crate::manifest::{Manifest, check_attributes, references};
use crate::model::{Attribute, Attributes, Diagnostic, Kind, Schema, Severity, SourceFile, Sources, Span, Value};
use crate::state::bounded;
use crate::workspace::Workspace;

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    attributes: Vec<(String, Span, Expr)>,
    /// The texts that diagnostics refer to.
    pub sources: Sources,
}

/// The schema of a webhook file.
static WEBHOOK: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "A message that is sent with POST. Redirects are not followed. The status codes 200, 201, 202 and 204 mean success.",
        [
            Attribute::required("url", Kind::String, "The URL, `http` or `https`.").secret(),
            Attribute::optional(
                "headers",
                Kind::map(Kind::String),
                "Headers by name. `Content-Type` is `application/json` by default.",
            ),
            Attribute::optional("bearer_token", Kind::String, "A token for the `Authorization` header.").secret(),
            Attribute::optional(
                "body",
                Kind::String,
                "The body, in which `self` is the report. By default the whole report as JSON.",
            ),
        ]
        .into_iter()
        .chain(certificates())
        .chain([
            Attribute::optional("timeout", Kind::Duration, "How long one request may take.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "How long to retry, at growing intervals, until the request is accepted.",
            )
            .or("30s"),
        ]),
    )
});

const UNKNOWN_VALUE: &str = "it depends on a value that is known only during an apply";

const SUCCESS: [i64; 4] = [200, 201, 202, 204];

impl Webhook {
    /// Reads the webhook in the file `path`, whose expressions may refer to `manifest`.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid. The errors refer to the returned sources.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Self, (Sources, Vec<Diagnostic>)> {
        // An error may also be in the manifest, so its texts are included.
        let mut sources = manifest.sources.clone();
        let text = match bounded::read_text(path, bounded::TEXT) {
            Ok(text) => text,
            Err(error) => {
                let problem = Diagnostic::error(format!("cannot read {}: {error}", path.display()));
                return Err((sources, vec![problem]));
            }
        };
        let file = sources.files.len();
        sources.files.push(SourceFile { path: path.to_owned(), text: text.clone() });
        let span = Span { file, start: 0, end: 0 };
        let (document, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            return Err((sources, syntax_errors(file, &text, &errors)));
        }
        let mut reader = Reader::new(file, &text);
        let entries = reader.entries(document.get_ref());
        let attributes = reader.attributes(entries);
        let mut problems = reader.diagnostics;
        problems.extend(check_attributes(&WEBHOOK, "the webhook", span, &attributes));
        problems.extend(references::of_webhook(manifest, attributes.iter().map(|(_, _, expr)| expr)));
        match problems.iter().any(|problem| problem.severity == Severity::Error) {
            true => Err((sources, problems)),
            false => Ok(Self { attributes, sources }),
        }
    }
}

impl Workspace {
    /// Validates the webhook without sending it. `members` are the members of `self`.
    ///
    /// # Errors
    /// If an expression is invalid, or refers to a member that `self` does not have.
    pub fn check_webhook(&self, webhook: &Webhook, members: &[&str]) -> Result<(), Vec<Diagnostic>> {
        let sample = Value::Map(members.iter().map(|name| ((*name).to_owned(), Value::Unknown)).collect());
        let request = self.request(webhook, sample)?;
        let uses_self = |expr: &Expr| expr.references().iter().any(|(reference, _)| *reference == Reference::This);
        let open = |(name, _, expr): &&(String, Span, Expr)| {
            !uses_self(expr) && request.get(name).is_some_and(Value::is_unknown)
        };
        let error = |(name, _, expr): &(String, Span, Expr)| {
            Diagnostic::error(format!("{name}: {UNKNOWN_VALUE}")).at(expr.span, "")
        };
        let errors: Vec<_> = webhook.attributes.iter().filter(open).map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Evaluates the attributes of the request, with `this` as the value of `self`.
    fn request(&self, webhook: &Webhook, this: Value) -> Result<Attributes, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let scope = InstanceScope::new(&expanded, Values::none(), Binding::default()).with_self(this);
        conformed(&WEBHOOK, &webhook.attributes, &scope)
    }

    /// Sends the webhook for `report`, and retries until it is accepted. `body` is the body if the webhook does not set one.
    ///
    /// # Errors
    /// If the request cannot be made, or is not accepted. The errors contain no sensitive values.
    pub async fn post(&self, webhook: &Webhook, report: &Json, body: &str) -> Result<(), Vec<Diagnostic>> {
        let request = self.request(webhook, Value::from(report.clone()))?;
        // The warning has no source line, because the line may contain a secret URL.
        let failed = |message: String| vec![Diagnostic::warning(format!("the webhook was not sent: {message}"))];
        if request.values().any(Value::is_unknown) {
            return Err(failed(UNKNOWN_VALUE.to_owned()));
        }
        let mut arguments = request;
        arguments.get_or_insert_with("body", || Value::from(body));
        let headers = arguments.get_or_insert_with("headers", || Value::Map(Default::default()));
        if let Value::Map(headers) = headers
            && !headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
        {
            headers.insert("Content-Type".to_owned(), Value::from("application/json"));
        }
        arguments.insert("method".to_owned(), Value::from("POST"));
        arguments.insert("expect_status".to_owned(), Value::List(SUCCESS.map(Value::from).into()));
        match send_request(arguments).await {
            Ok(violations) if violations.is_empty() => Ok(()),
            Ok(violations) => Err(failed(violations.join("; "))),
            Err(errors) => {
                Err(failed(errors.into_iter().map(|(path, message)| format!("{path}: {message}")).collect()))
            }
        }
    }
}

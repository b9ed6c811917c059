//! A message to an HTTP server, as a TOML file with expressions describes it.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value as Json;
use toml::de::DeTable;

use crate::check::http;
use crate::configuration::evaluate::conformed;
use crate::configuration::expand::Binding;
use crate::configuration::scope::{InstanceScope, Values};
use crate::expression::{Expr, Reference};
use crate::manifest::http_block::certificates;
use crate::manifest::load::syntax_errors;
use crate::manifest::reader::Reader;

use crate::manifest::{Manifest, check_attributes, references};
use crate::model::{
    Attribute, Attributes, Diagnostic, Kind, Schema, Severity, SourceFile, Sources, Span, Value, conform,
};
use crate::state::bounded;
use crate::workspace::Workspace;

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Webhook {
    attributes: Vec<(String, Span, Expr)>,
    /// The texts that diagnostics point into.
    pub sources: Sources,
}

/// What the file of a webhook takes.
static WEBHOOK: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "A message that is posted. Redirects are not followed; an answer of 200, 201, 202 or 204 is a success.",
        [
            Attribute::required("url", Kind::String, "The URL, `http` or `https`.").secret(),
            Attribute::optional(
                "headers",
                Kind::map(Kind::String),
                "Headers by name. `Content-Type` is `application/json` where it is not written.",
            ),
            Attribute::optional("bearer_token", Kind::String, "A token for the `Authorization` header.").secret(),
            Attribute::optional(
                "body",
                Kind::String,
                "The body, in which `self` stands for what there is to tell. All of that as JSON where it is not written.",
            ),
        ]
        .into_iter()
        .chain(certificates())
        .chain([
            Attribute::optional("timeout", Kind::Duration, "How long one request may take.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "How long to try again, at growing intervals, until it is taken.",
            )
            .or("30s"),
        ]),
    )
});

const ONLY_IN_AN_APPLY: &str = "it depends on what is known only in an apply";

const SUCCESS: [i64; 4] = [200, 201, 202, 204];

impl Webhook {
    /// The webhook in the file `path`, for who runs `manifest`.
    ///
    /// # Errors
    /// If it can't be read, or all that is wrong with it, and the texts that this points into.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Self, (Sources, Vec<Diagnostic>)> {
        // What it refers to may be wrong as well, so the manifest is among the texts.
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
    /// Finds what is wrong with the webhook whatever there is to tell; that has these members.
    ///
    /// # Errors
    /// All of it: a file that can't be read, a member that what there is to tell does not have.
    pub fn check_webhook(&self, webhook: &Webhook, members: &[&str]) -> Result<(), Vec<Diagnostic>> {
        let sample = Value::Map(members.iter().map(|name| ((*name).to_owned(), Value::Unknown)).collect());
        let request = self.request(webhook, sample)?;
        let tells = |expr: &Expr| expr.references().iter().any(|(reference, _)| *reference == Reference::This);
        let open =
            |(name, _, expr): &&(String, Span, Expr)| !tells(expr) && request.get(name).is_some_and(Value::is_unknown);
        let error = |(name, _, expr): &(String, Span, Expr)| {
            Diagnostic::error(format!("{name}: {ONLY_IN_AN_APPLY}")).at(expr.span, "")
        };
        let errors: Vec<_> = webhook.attributes.iter().filter(open).map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What the webhook says of the request, with `self` standing for `this`.
    fn request(&self, webhook: &Webhook, this: Value) -> Result<Attributes, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let scope = InstanceScope::new(&expanded, Values::none(), Binding::default()).with_self(this);
        conformed(&WEBHOOK, &webhook.attributes, &scope)
    }

    /// Posts what the webhook makes of `report`, or `body` where it says nothing of that, and tries again until it is taken.
    ///
    /// # Errors
    /// Why it could not be made or was not taken; never with what is secret in it.
    pub async fn post(&self, webhook: &Webhook, report: &Json, body: &str) -> Result<(), Vec<Diagnostic>> {
        let request = self.request(webhook, Value::from(report.clone()))?;
        // Without its place: the line may hold a URL that is a secret.
        let failed = |message: String| vec![Diagnostic::warning(format!("the webhook was not told: {message}"))];
        if request.values().any(Value::is_unknown) {
            return Err(failed(ONLY_IN_AN_APPLY.to_owned()));
        }
        let mut arguments = request;
        arguments.entry("body".to_owned()).or_insert_with(|| Value::from(body));
        let headers = arguments.entry("headers".to_owned()).or_insert_with(|| Value::Map(Default::default()));
        if let Value::Map(headers) = headers
            && !headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
        {
            headers.insert("Content-Type".to_owned(), Value::from("application/json"));
        }
        arguments.insert("method".to_owned(), Value::from("POST"));
        arguments.insert("expect_status".to_owned(), Value::List(SUCCESS.map(Value::from).into()));
        let arguments = conform(&crate::manifest::HTTP, arguments).map_err(|faults| {
            failed(faults.into_iter().map(|(path, message)| format!("{path}: {message}")).collect())
        })?;
        match http::probe(&arguments, crate::check::When::Applied).await {
            Ok(answer) if answer.violations.is_empty() => Ok(()),
            Ok(answer) => Err(failed(answer.violations.join("; "))),
            Err(message) => Err(failed(message)),
        }
    }
}

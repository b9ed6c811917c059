//! Redaction of sensitive texts in the output of a node.

use moorfast_engine::model::Value;
use moorfast_engine::provider::ProviderError;
use zeroize::Zeroizing;

/// The text that replaces a secret.
const PLACEHOLDER: &str = "(sensitive)";

/// The shortest text that is redacted. Shorter texts are part of many words.
const MIN_LENGTH: usize = 3;

/// The shortest line of a longer text that is redacted by itself.
const MIN_LINE_LENGTH: usize = 8;

/// Sensitive texts, in the forms in which a node may print them.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Zeroizing<Vec<String>>);

impl Secrets {
    /// Collects the sensitive texts in `value`.
    pub(crate) fn of(value: Option<&Value>) -> Self {
        let mut secrets = Zeroizing::new(Vec::new());
        if let Some(value) = value {
            collect(value, false, &mut secrets);
        }
        // A secret may be the beginning of another one, so the longest is replaced first.
        secrets.sort_by_key(|secret: &String| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// Returns `error` without the secrets.
    pub(crate) fn redact_error(&self, mut error: ProviderError) -> ProviderError {
        if self.0.is_empty() {
            return error;
        }
        error.summary = self.redact(error.summary);
        if !error.detail.is_empty() {
            error.detail = self.redact(error.detail.join("\n")).split('\n').map(str::to_owned).collect();
        }
        error
    }

    /// Returns `text` without the secrets.
    pub(crate) fn redact(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| text.replace(secret, PLACEHOLDER))
    }
}

/// Adds the sensitive texts of `value`; with `hidden` all of its texts.
fn collect(value: &Value, hidden: bool, into: &mut Vec<String>) {
    match value {
        Value::Sensitive(_) => collect(value.reveal(), true, into),
        Value::List(items) => items.iter().for_each(|item| collect(item, hidden, into)),
        Value::Map(map) => map.values().for_each(|member| collect(member, hidden, into)),
        Value::String(text) if hidden => into.extend(forms(text)),
        _ => {}
    }
}

/// Returns the forms in which a secret is printed: without its last line break, without empty lines, and line by line, because output may be cut.
fn forms(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let wholes = [text.trim().to_owned(), lines.join("\n").trim().to_owned()];
    let parts = lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| line.len() >= MIN_LINE_LENGTH);
    wholes.into_iter().filter(|whole| whole.len() >= MIN_LENGTH).chain(parts)
}

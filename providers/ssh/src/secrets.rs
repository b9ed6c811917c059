//! The texts that are cut out of what a node said.

use moorfast_engine::model::Value;
use moorfast_engine::provider::ProviderError;
use zeroize::Zeroizing;

/// What stands where one of them was.
const CUT: &str = "(sensitive)";

/// How long a text must be to be cut out: shorter ones are in every other word.
const WHOLE: usize = 3;

/// How long a line of a longer text must be to be a secret by itself.
const LINE: usize = 8;

/// Sensitive texts, in the forms in which a node may say them.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Zeroizing<Vec<String>>);

impl Secrets {
    /// What is sensitive in `value`.
    pub(crate) fn of(value: Option<&Value>) -> Self {
        let mut secrets = Zeroizing::new(Vec::new());
        if let Some(value) = value {
            collect(value, false, &mut secrets);
        }
        // One may begin as another does.
        secrets.sort_by_key(|secret: &String| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// `error`, without them.
    pub(crate) fn cut_from(&self, mut error: ProviderError) -> ProviderError {
        if self.0.is_empty() {
            return error;
        }
        error.summary = self.cut(error.summary);
        if !error.detail.is_empty() {
            error.detail = self.cut(error.detail.join("\n")).split('\n').map(str::to_owned).collect();
        }
        error
    }

    /// `text`, without them.
    pub(crate) fn cut(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| text.replace(secret, CUT))
    }
}

/// Adds the sensitive texts of `value`, all of them where it is `hidden` as a whole.
fn collect(value: &Value, hidden: bool, into: &mut Vec<String>) {
    match value {
        Value::Sensitive(_) => collect(value.reveal(), true, into),
        Value::List(items) => items.iter().for_each(|item| collect(item, hidden, into)),
        Value::Map(map) => map.values().for_each(|member| collect(member, hidden, into)),
        Value::String(text) if hidden => into.extend(forms(text)),
        _ => {}
    }
}

/// A secret as it is said: without the line break at its end, without empty lines, and, since what is said may be cut short, line by line.
fn forms(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let wholes = [text.trim().to_owned(), lines.join("\n").trim().to_owned()];
    let parts = lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| line.len() >= LINE);
    wholes.into_iter().filter(|whole| whole.len() >= WHOLE).chain(parts)
}

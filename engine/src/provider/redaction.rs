//! Redaction of sensitive values in messages.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::{Value, yaml_documents};
use crate::provider::{Consequence, ProviderError};

/// The text that replaces a sensitive value.
const PLACEHOLDER: &str = "(sensitive)";
/// A shorter text is redacted only as a whole word, because it may be part of another word.
const ANYWHERE_MIN: usize = 4;
/// These words are redacted only where a message shows a value, because they are in most messages.
const ORDINARY: &str = "a all an and any are as at be but by can cannot change cluster command connect create did directory do does error exist failed file first \
    for found from group has have host if in invalid is it its least manifest may missing must name no node not object of on one only or path \
    root server service set should so such that the then there this to up user value was when with without write";
/// A shorter line of a longer text is not redacted by itself, because it may be ordinary syntax such as `else`. A shorter value inside a text is redacted only
/// as a whole word.
const PART_MIN: usize = 8;

/// The texts to remove from messages.
#[derive(Clone, Default)]
pub struct Redaction {
    /// Ordered by length, the longest first, because one text may be part of another.
    hidden: Vec<Hidden>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hidden {
    text: String,
    occurs: Occurs,
}

/// Where a text is recognized as the sensitive value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Occurs {
    Anywhere,
    AsWord,
    /// As a word beside a quotation mark or another delimiter, or at the end of a line.
    AsValue,
}

impl Redaction {
    /// Returns the redaction of all sensitive values in `values`.
    pub fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Self {
        let texts: BTreeSet<_> = values.into_iter().flat_map(Value::secrets).collect();
        Self::of_texts(texts.into_iter().map(Cow::into_owned))
    }

    /// Returns the redaction of `texts`, unchanged and as messages quote them.
    pub fn of_texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::sorted(texts.into_iter().flat_map(|text| [values_inside(&text), forms(&text)].concat()).collect())
    }

    fn sorted(mut hidden: Vec<Hidden>) -> Self {
        hidden.sort_by(|a, b| b.text.chars().count().cmp(&a.text.chars().count()).then_with(|| a.cmp(b)));
        hidden.dedup();
        Self { hidden }
    }

    /// Returns the redaction of all texts of this one and of `other`.
    pub(crate) fn and(self, other: &Self) -> Self {
        Self::sorted([self.hidden, other.hidden.clone()].concat())
    }

    /// Returns the redaction without the texts that are recognized only as words. A message about another object can contain such a word by chance.
    pub(crate) fn without_words(mut self) -> Self {
        self.hidden.retain(|hidden| hidden.occurs == Occurs::Anywhere);
        self
    }

    /// Returns `text` without the sensitive values.
    pub fn text(&self, text: &str) -> String {
        self.hidden.iter().fold(text.to_owned(), |text, hidden| hidden.replaced_in(&text))
    }

    /// Returns `error` without the sensitive values.
    pub fn error(&self, error: ProviderError) -> ProviderError {
        ProviderError {
            summary: self.text(&error.summary),
            detail: self.lines(&error.detail),
            help: error.help.as_deref().map(|help| self.text(help)),
            ..error
        }
    }

    /// Returns `lines` without the sensitive values. A value with several lines is removed from all of them.
    fn lines(&self, lines: &[String]) -> Vec<String> {
        match lines {
            [] => Vec::new(),
            lines => self.text(&lines.join("\n")).split('\n').map(str::to_owned).collect(),
        }
    }

    /// Returns `consequence` without the sensitive values.
    pub(crate) fn consequence(&self, consequence: Consequence) -> Consequence {
        match consequence {
            Consequence::Restart { cause } => Consequence::Restart { cause: self.text(&cause) },
            Consequence::Overwrite => Consequence::Overwrite,
            Consequence::Removal { object } => Consequence::Removal { object: self.text(&object) },
            Consequence::Downgrade { object, from, to } => {
                Consequence::Downgrade { object: self.text(&object), from: self.text(&from), to: self.text(&to) }
            }
            Consequence::Invalidation { object } => Consequence::Invalidation { object: self.text(&object) },
            Consequence::Obstacle { message } => Consequence::Obstacle { message: self.text(&message) },
        }
    }
}

impl Hidden {
    fn new(text: &str) -> Option<Self> {
        let occurs = match text {
            "" => return None,
            "true" | "false" => Occurs::AsWord,
            text if ORDINARY.split(' ').any(|word| word == text) => Occurs::AsValue,
            text if text.chars().count() < ANYWHERE_MIN => Occurs::AsWord,
            _ => Occurs::Anywhere,
        };
        Some(Self { text: text.to_owned(), occurs })
    }

    /// Returns the same text, recognized only as a whole word.
    fn only_as_word(self) -> Self {
        let occurs = if self.occurs == Occurs::Anywhere { Occurs::AsWord } else { self.occurs };
        Self { occurs, ..self }
    }

    fn replaced_in(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = 0;
        for (start, _) in text.match_indices(&self.text) {
            let end = start + self.text.len();
            if self.matches_between(&text[..start], &text[end..]) {
                replaced.push_str(&text[rest..start]);
                replaced.push_str(PLACEHOLDER);
                rest = end;
            }
        }
        replaced.push_str(&text[rest..]);
        replaced
    }

    /// Whether the text between these texts is the sensitive value.
    fn matches_between(&self, before: &str, after: &str) -> bool {
        match self.occurs {
            Occurs::Anywhere => true,
            Occurs::AsWord => is_word_between(before, after),
            Occurs::AsValue => is_word_between(before, after) && is_value_between(before, after),
        }
    }
}

/// Whether the text between these texts is a whole word, and not part of a path, an address or a version.
fn is_word_between(before: &str, after: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || "_-/".contains(c);
    // A full stop ends a sentence, or it is inside a word.
    let continues = after.strip_prefix('.').unwrap_or(after).starts_with(is_word);
    !before.ends_with(|c| is_word(c) || c == '.') && !continues
}

/// Whether the place between these texts shows a value, and not a word of a sentence.
fn is_value_between(before: &str, after: &str) -> bool {
    let ends = after.is_empty() || after == "." || after.starts_with(".\n");
    let closes = |c: char| "'\"`\u{2018}\u{2019}:=,;)]}>\n".contains(c);
    before.ends_with(|c| "'\"`\u{2018}\u{2019}:=,([{<".contains(c)) || after.starts_with(closes) || ends
}

/// Returns the values inside a text that is JSON or YAML: a program that reads the text may quote one of them.
fn values_inside(text: &str) -> Vec<Hidden> {
    let documents = yaml_documents(text).unwrap_or_default();
    let structured = documents.iter().filter(|document| matches!(document.value, Value::Map(_) | Value::List(_)));
    let texts: BTreeSet<_> = structured.flat_map(|document| texts_in(&document.value)).collect();
    texts.into_iter().flat_map(value_inside).collect()
}

fn texts_in(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::List(items) => items.iter().flat_map(texts_in).collect(),
        Value::Map(map) => map.values().flat_map(texts_in).collect(),
        _ => Vec::new(),
    }
}

fn value_inside(text: &str) -> Vec<Hidden> {
    match text.chars().count() {
        ..ANYWHERE_MIN => Vec::new(),
        ANYWHERE_MIN..PART_MIN => Hidden::new(text).map(Hidden::only_as_word).into_iter().collect(),
        _ => forms(text),
    }
}

/// Returns the forms in which a message may show `text`: unchanged, without empty lines, escaped as in JSON and in a shell, and line by line.
fn forms(text: &str) -> Vec<Hidden> {
    let lines: Vec<String> = match text.trim().contains('\n') {
        true => {
            text.lines().map(str::trim).filter(|line| line.chars().count() >= PART_MIN).map(str::to_owned).collect()
        }
        false => Vec::new(),
    };
    let full_lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let whole = [text.trim().to_owned(), full_lines.trim().to_owned(), text.trim_matches('\n').to_owned()];
    let quoted = |text: String| {
        let json = serde_json::Value::from(text.as_str()).to_string();
        [json[1..json.len() - 1].to_owned(), text.replace('\'', "'\\''"), text]
    };
    whole.into_iter().chain(lines).flat_map(quoted).filter_map(|text| Hidden::new(&text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Class;

    fn redaction(secret: &str) -> Redaction {
        Redaction::of([&Value::from(secret).sensitive()])
    }

    #[test]
    fn a_sensitive_value_is_replaced_wherever_a_message_shows_it() {
        let cases = [
            ("hunter2", "chown: invalid user: 'hunter2'", "chown: invalid user: '(sensitive)'"),
            ("hunter2\n", "invalid token hunter2", "invalid token (sensitive)"),
            ("hunter2", "in prefix-hunter2x", "in prefix-(sensitive)x"),
            ("a\"b\nc", "Invalid value: \"a\\\"b\\nc\": too short", "Invalid value: \"(sensitive)\": too short"),
            ("BEGIN KEY\n\nAg==\n", "BEGIN KEY\nAg==", "(sensitive)"),
            ("a'bc", "sh: 'a'\\''bc'", "sh: '(sensitive)'"),
            ("set -e\ncurl -H token:1 x", "+ curl -H token:1 x", "+ (sensitive)"),
        ];
        for (secret, text, expected) in cases {
            assert_eq!(redaction(secret).text(text), expected, "{secret:?}");
        }
    }

    #[test]
    fn a_short_sensitive_value_is_not_redacted_within_words() {
        let cases = [
            ("y", "managed by \"kubectl\"", "managed by \"kubectl\""),
            ("y", "Invalid value: \"y\": too short", "Invalid value: \"(sensitive)\": too short"),
            ("to", "invalid user: 'to' to chown", "invalid user: '(sensitive)' to chown"),
            ("be", "must be set", "must be set"),
            ("user", "create the user (ssh_user), not 'user'", "create the user (ssh_user), not '(sensitive)'"),
            ("file", "cat: /x/file: No such file or directory", "cat: /x/file: No such file or directory"),
            ("not", "cannot start, not found: 'not'", "cannot start, not found: '(sensitive)'"),
            ("root", "chroot of root:root in /root", "chroot of (sensitive):(sensitive) in /root"),
            ("api", "the API server api-1 and capital", "the API server api-1 and capital"),
            ("api", "user api: unknown", "user (sensitive): unknown"),
            ("", "nothing", "nothing"),
            ("x", "chown: invalid user: x", "chown: invalid user: (sensitive)"),
            ("x", "user x does not exist", "user (sensitive) does not exist"),
            ("to", "invalid user to: no such user", "invalid user (sensitive): no such user"),
            ("to", "cannot write to /a to", "cannot write to /a (sensitive)"),
            ("a", "mode=a of a file /a in a.b", "mode=(sensitive) of a file /a in a.b"),
            ("7", "uid 7 is taken.", "uid (sensitive) is taken."),
            ("7", "the value is 7.", "the value is (sensitive)."),
            ("7", "7:7 at 10.0.7.1, v1.7, 17 and /x/7", "(sensitive):(sensitive) at 10.0.7.1, v1.7, 17 and /x/7"),
        ];
        for (secret, text, expected) in cases {
            assert_eq!(redaction(secret).text(text), expected, "{secret:?}");
        }
    }

    #[test]
    fn a_part_of_a_longer_value_is_redacted_too() {
        let redaction = redaction("Bearer hunter2").and(&redaction("hunter2"));
        assert_eq!(redaction.text("Bearer hunter2: no token hunter2"), "(sensitive): no token (sensitive)");
    }

    #[test]
    fn a_value_inside_json_or_yaml_is_redacted_too() {
        let json = r#"{"auths":{"registry.example.org":{"username":"deploy","auth":"ZGVwbG95OmFi"}},"tries":[1,true]}"#;
        let cases = [
            (json, "bad auth ZGVwbG95OmFi", "bad auth (sensitive)"),
            (json, "user deploy may not deploy-all", "user (sensitive) may not deploy-all"),
            (json, "registry.example.org: 1 of 3 is true", "registry.example.org: 1 of 3 is true"),
            ("password: hunter22", "no access with \"hunter22\"", "no access with \"(sensitive)\""),
            ("- key: |\n    BEGIN KEY\n    Ag==\n", "not a key: BEGIN KEY\\nAg==", "not a key: (sensitive)"),
            ("level: info\nport: v1", "info: API v1 is not found", "(sensitive): API v1 is not found"),
            ("plain text", "it is plain", "it is plain"),
        ];
        for (secret, text, expected) in cases {
            assert_eq!(redaction(secret).text(text), expected, "{secret:?}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_redacted_as_words() {
        let cases = [
            (Value::from(7), "`size` is 7, not 17", "`size` is (sensitive), not 17"),
            (Value::from(true), "value true: untrue", "value (sensitive): untrue"),
            (Value::from(true), "expected false", "expected (sensitive)"),
        ];
        for (secret, text, expected) in cases {
            assert_eq!(Redaction::of([&secret.clone().sensitive()]).text(text), expected, "{secret:?}");
        }
    }

    #[test]
    fn every_part_of_an_error_is_redacted() {
        let error =
            ProviderError::new(Class::Failed, "no user hunter2").detail(["uid of hunter2"]).help("make hunter2");
        let error = redaction("hunter2").error(error);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let error = ProviderError::new(Class::Failed, "no key").detail(["BEGIN KEY", "Ag==", "end"]);
        let error = redaction("BEGIN KEY\n\nAg==\n").error(error);
        assert_eq!(error.detail, ["(sensitive)", "end"]);
    }

    #[test]
    fn only_sensitive_values_are_redacted() {
        let map = [("open".to_owned(), Value::from("shown")), ("port".to_owned(), Value::from(65_123).sensitive())];
        assert_eq!(Redaction::of([&Value::Map(map.into())]).text("shown on 65123"), "shown on (sensitive)");
    }
}

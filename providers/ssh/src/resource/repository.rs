//! The common part of `ssh_apt_repository` and `ssh_dnf_repository`: a file that the package manager reads, and a key.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError, TargetKind,
};
use sha2::{Digest, Sha256};

use super::proposal::propose;
use super::{Resource, ShellTask, TEXT_FILE, not_sensitive};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{print_bytes, quote, quote_all};
use crate::sources::Sources;
use crate::subject::Subject;

/// A type of repositories.
pub(crate) struct Repository(pub(crate) &'static Format);

/// What the package managers do differently.
pub(crate) struct Format {
    /// The name of the resource type.
    pub(crate) name: &'static str,
    /// The documentation of the type.
    pub(crate) doc: &'static str,
    /// Returns the attributes beside those of both.
    pub(crate) attributes: fn() -> Vec<Attribute>,
    /// The attributes that determine the text of the file.
    pub(crate) settings: &'static [&'static str],
    /// The command of the package manager.
    pub(crate) manager: &'static str,
    /// Returns the path of the file of a repository.
    pub(crate) path: fn(&str) -> String,
    /// Returns the paths of its key: in text, and in binary form.
    pub(crate) key_paths: fn(&str) -> [String; 2],
    /// Returns the text of the file.
    pub(crate) text: fn(&str, &Attributes, Option<&Key>) -> String,
    /// Checks rules beyond the schema.
    pub(crate) validate: fn(&Attributes) -> Vec<Invalid>,
    /// Shell with the function `read_repository`.
    pub(crate) read: &'static str,
}

/// The key of a repository.
pub(crate) struct Key {
    /// Its path on the node.
    pub(crate) path: String,
    bytes: Vec<u8>,
}

/// The attributes that set the key.
const KEYS: &[&str] = &["key", "key_base64", "key_source"];

/// The first line of a key in text form.
const ARMOR: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

impl Resource for Repository {
    fn declaration(&self) -> Declaration {
        let first = Attribute::required(
            "name",
            Kind::String,
            "The name of the repository, and of its file without the extension: letters, digits, `.`, `_` and `-`.",
        )
        .replaces();
        let common = [
            Attribute::optional("key", Kind::String, "The public key that signs the repository, as text (`-----BEGIN PGP PUBLIC KEY BLOCK-----`)."),
            Attribute::optional("key_base64", Kind::String, "The public key in binary form, in base64."),
            Attribute::optional("key_source", Kind::String, "A local file with the public key, in text or binary form, up to 64 KiB. A relative path starts at the folder of the manifest."),
            Attribute::optional("trusted", Kind::Bool, "Whether packages are accepted without a signature. Anybody who can change the repository or the connection to it can then change the node.").or(false),
            Attribute::optional("options", Kind::map(Kind::String), "Further fields of the file, for which there is no attribute."),
            Attribute::computed("content", Kind::String, "The text of the file."),
            Attribute::computed("key_sha256", Kind::String, "The SHA-256 of the key, in hexadecimal digits. Empty without a key."),
        ];
        let attributes = std::iter::once(first).chain((self.0.attributes)()).chain(common);
        Declaration { name: self.0.name, target_kind: TargetKind::Node, schema: Schema::new(self.0.doc, attributes) }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid = (self.0.validate)(attributes);
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if let Some(name) = attributes.text("name").filter(|name| !is_name(name)) {
            let message = format!("`{name}` is not a valid name of a repository");
            invalid.push(Invalid::new("name", message).help("use letters, digits, `.`, `_` and `-`"));
        }
        for name in self.0.settings {
            invalid.extend(not_sensitive(attributes, name, "every user of the node can read the file; keep a password in a file of its own (`/etc/apt/auth.conf.d`)"));
            let list = attributes.texts(name);
            let is_word = |word: &String| !word.is_empty() && !word.contains(char::is_whitespace);
            if let Some(word) = list.iter().find(|word| !is_word(word)) {
                invalid.push(Invalid::new(name, format!("`{word}` is not a single word")));
            }
            if attributes.text(name).is_some_and(|text| text.contains(['\n', '\r'])) {
                invalid.push(Invalid::new(name, format!("{name} must be a single line")));
            }
        }
        for (name, value) in options(attributes) {
            if name.is_empty()
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                || value.contains(['\n', '\r'])
            {
                invalid.push(Invalid::new("options", format!("`{name}` is not a valid option with a single line")));
            }
        }
        let given: Vec<&str> = KEYS.iter().copied().filter(|name| attributes.is_set(name)).collect();
        if given.len() > 1 {
            let message = format!("`{}` cannot be combined", given.join("` and `"));
            invalid.push(Invalid { attribute: None, message, help: Some("write one of them".to_owned()) });
        }
        if attributes.text("key").is_some_and(|key| !key.trim_start().as_bytes().starts_with(ARMOR)) {
            let message = "key is not a public key in text form".to_owned();
            invalid.push(Invalid::new("key", message).help("write the text from `-----BEGIN PGP PUBLIC KEY BLOCK-----` on; for a key in binary form use key_base64 or key_source"));
        }
        if let Some(Err(message)) = attributes.text("key_base64").map(decode) {
            invalid.push(Invalid::new("key_base64", message));
        }
        if given.is_empty() && attributes.get("trusted").and_then(Value::as_bool) == Some(false) {
            let message = "the repository has no key".to_owned();
            invalid.push(Invalid {
                attribute: None,
                message,
                help: Some(
                    "write key, key_base64 or key_source; trusted = true accepts packages without a signature"
                        .to_owned(),
                ),
            });
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        // As of an ssh_file, so that both at once are an error of the manifest.
        Some(format!("path:{}", (self.0.path)(attributes.text("name")?)))
    }

    fn source(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("key_source").map(str::to_owned)
    }

    fn settings(&self) -> &'static [&'static str] {
        self.0.settings
    }

    fn lost_on_overwrite(&self) -> &'static [&'static str] {
        &["content", "key_sha256"]
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        let Some(name) = subject.text("name") else { return Vec::new() };
        let path = (self.0.path)(name);
        let mut questions: Vec<_> = (self.0.key_paths)(name)
            .into_iter()
            .flat_map(|key| [Topic::Path.of(&key), Topic::Digest.of(&key)])
            .collect();
        questions.extend([Topic::Path.of(&path), Topic::Content.of(path)]);
        questions
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let name = subject.text("name").unwrap_or_default();
        let Some(content) = answer.node.content(&(self.0.path)(name)) else { return Ok(None) };
        let keys = (self.0.key_paths)(name);
        let digest = keys.iter().find_map(|key| answer.node.digest(key)).unwrap_or_default();
        let mut attributes = Attributes::from([
            ("content".to_owned(), Value::from(String::from_utf8_lossy(content).as_ref())),
            ("key_sha256".to_owned(), Value::from(digest)),
        ]);
        attributes.extend(subject.attributes.get("name").map(|name| ("name".to_owned(), name.clone())));
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, sources: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        let name = request.desired.text("name").unwrap_or_default();
        let parts = || self.0.settings.iter().chain(KEYS).filter_map(|part| request.desired.get(part));
        let (content, digest) = if parts().any(Value::is_unknown) {
            (Value::Unknown, Value::Unknown)
        } else if parts().any(Value::is_retained) {
            (Value::Retained, Value::Retained)
        } else {
            let key = self.key(&request.desired, sources)?;
            let digest = key.as_ref().map(|key| format!("{:x}", Sha256::digest(&key.bytes))).unwrap_or_default();
            (Value::from((self.0.text)(name, &request.desired, key.as_ref())), Value::from(digest))
        };
        planned.extend([("content".to_owned(), content), ("key_sha256".to_owned(), digest)]);
        for key in KEYS {
            planned.remove(key);
        }
        Ok(propose(self, request, planned))
    }

    fn apply_script(
        &self,
        operation: &Operation,
        subject: &Subject,
        sources: &Sources,
    ) -> Result<ShellTask, ProviderError> {
        let name = subject.text("name").unwrap_or_default();
        let (path, keys) = (quote(&(self.0.path)(name)), (self.0.key_paths)(name));
        let keys = quote_all(keys.iter().map(String::as_str));
        if matches!(operation.action, OperationAction::Delete) {
            return Ok(ShellTask::quick(format!("rm -f -- {path} {keys}")));
        }
        let key = self.key(&subject.attributes, sources)?;
        let content = (self.0.text)(name, &subject.attributes, key.as_ref());
        let body = format!(
            "{TEXT_FILE}{}F={path}; ID={}; MANAGER={}; KEY={}
print_file() {{ {}; }}
print_key() {{ {}; }}
set -- {keys}
{WRITE}",
            self.0.read,
            quote(name),
            self.0.manager,
            quote(key.as_ref().map(|key| key.path.as_str()).unwrap_or_default()),
            print_bytes(content.as_bytes()),
            print_bytes(key.as_ref().map(|key| key.bytes.as_slice()).unwrap_or_default()),
        );
        Ok(ShellTask { packages: true, limit: Some(Duration::from_secs(600)), ..ShellTask::long(body) })
    }
}

const WRITE: &str = include_str!("repository/write.sh");

impl Repository {
    /// Returns the key that the manifest names.
    fn key(&self, attributes: &Attributes, sources: &Sources) -> Result<Option<Key>, ProviderError> {
        let name = attributes.text("name").unwrap_or_default();
        let bytes = if let Some(key) = attributes.text("key") {
            key.as_bytes().to_vec()
        } else if let Some(key) = attributes.text("key_base64") {
            decode(key).map_err(|error| ProviderError::new(Class::Invalid, error).attribute("key_base64"))?
        } else if let Some(path) = attributes.text("key_source") {
            let source = sources.get(path).map_err(|error| error.attribute("key_source"))?;
            source.bytes.clone().ok_or_else(|| {
                ProviderError::new(Class::Invalid, format!("{} is larger than 64 KiB", source.path.display()))
                    .attribute("key_source")
            })?
        } else {
            return Ok(None);
        };
        let [armored, binary] = (self.0.key_paths)(name);
        let path = if bytes.trim_ascii_start().starts_with(ARMOR) { armored } else { binary };
        Ok(Some(Key { path, bytes }))
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let compact: String = text.split_whitespace().collect();
    STANDARD.decode(compact).map_err(|error| format!("key_base64 is not base64: {error}"))
}

/// Returns the texts of a list in one line.
pub(crate) fn words(attributes: &Attributes, name: &str) -> String {
    attributes.texts(name).join(" ")
}

/// Returns the further fields of the file.
pub(crate) fn options(attributes: &Attributes) -> Vec<(String, String)> {
    let map = attributes.get("options").and_then(Value::as_map);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

//! Functions on files. Each file that is read is an input of the plan.

use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use moorfast_state::{Digest, bounded};

use super::{Arguments, Body, CallError, Family, Function, Lazy, quoting_error};
use crate::expression::Files;
use crate::model::{Value, is_inside};

/// The maximum size of a file in bytes.
const MAX_SIZE: u64 = 64 << 20;

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Filesystem,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function(
            "abspath",
            &["path"],
            "The absolute path. Relative paths are relative to the folder of the manifest.",
            |a| {
                let path = std::path::absolute(resolved(a.files, &a.text(0)?))
                    .map_err(|error| quoting_error(error.to_string()))?;
                Ok(path_value(&normal(&path)))
            },
        ),
        function("basename", &["path"], "The last part of the path.", |a| {
            let path = a.text(0)?;
            let name = Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
            Ok(Value::from(name.unwrap_or(path)))
        }),
        function("dirname", &["path"], "The path without its last part.", |a| {
            let path = a.text(0)?;
            Ok(match Path::new(&path).parent() {
                Some(parent) if parent.as_os_str().is_empty() => Value::from("."),
                Some(parent) => path_value(parent),
                None => Value::from(path),
            })
        }),
        function(
            "file",
            &["path"],
            "The content of the file as text. Relative paths are relative to the folder of the manifest.",
            |a| read_text(a.files, &a.text(0)?).map(Value::from),
        ),
        function("filebase64", &["path"], "The content of the file encoded in base64.", |a| {
            Ok(Value::from(STANDARD.encode(read(a.files, &a.text(0)?)?)))
        }),
        function("fileexists", &["path"], "Whether the file exists.", |a| {
            Ok(Value::from(permitted(a.files, &a.text(0)?)?.is_file()))
        }),
        function(
            "fileset",
            &["folder", "pattern"],
            "The paths of the files in the folder that match the glob pattern: `*`, `?`, `**`, `[a-z]`, `{a,b}`.",
            fileset,
        ),
        function("pathexpand", &["path"], "The path with a leading `~` replaced by the home directory.", |a| {
            Ok(path_value(&home(&a.text(0)?)))
        }),
        Function {
            name: "templatefile",
            family: Family::Filesystem,
            parameters: &["path", "variables"],
            doc: "The file rendered as a template with the map of variables.",
            body: Body::Lazy(Lazy::Templatefile),
        },
    ]
}

/// Reads the file at `path` and records it as an input.
pub(super) fn read(files: &Files, path: &str) -> Result<Vec<u8>, CallError> {
    let place = permitted(files, path)?;
    if place.exists() && !place.is_file() {
        return Err(quoting_error(format!("{} is not a file", place.display())));
    }
    let bytes = bounded::read(&place, MAX_SIZE).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => format!("the file {} does not exist", place.display()),
            _ => format!("cannot read {}: {error}", place.display()),
        };
        quoting_error(reason)
    })?;
    let mut read = files.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let digest = Digest::of(&bytes);
    match read.insert(PathBuf::from(path), digest.clone()) {
        // A plan must not contain two versions of a file.
        Some(before) if before != digest => {
            Err(quoting_error(format!("{} changed while moorfast was running: plan again", place.display())))
        }
        _ => Ok(bytes),
    }
}

/// Reads the text of the file at `path` and records it as an input.
pub(super) fn read_text(files: &Files, path: &str) -> Result<String, CallError> {
    String::from_utf8(read(files, path)?)
        .map_err(|_| quoting_error(format!("{path} is not UTF-8 text: read it with `filebase64`")))
}

/// Returns the resolved path, unless the manifest is not trusted and the path leaves its folder.
fn permitted(files: &Files, path: &str) -> Result<PathBuf, CallError> {
    let place = resolved(files, path);
    files.check(&place).map(|()| place).map_err(quoting_error)
}

impl Files {
    /// Checks whether the file at `place` may be read.
    ///
    /// # Errors
    /// Returns a message if it must not be read.
    pub fn check(&self, place: &Path) -> Result<(), String> {
        match &self.untrusted {
            Some(own) if !is_inside(self.boundary.as_ref().unwrap_or(&self.root), own, place) => Err(format!(
                "`plan --untrusted` reads only files in the folder of the manifest, and {} is not one of them",
                place.display()
            )),
            _ => Ok(()),
        }
    }
}

fn resolved(files: &Files, path: &str) -> PathBuf {
    files.root.join(home(path))
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::home_dir()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn path_value(path: &Path) -> Value {
    Value::from(path.to_string_lossy().into_owned())
}

/// Returns the path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn fileset(a: &Arguments) -> Result<Value, CallError> {
    let (folder, pattern) = (permitted(a.files, &a.text(0)?)?, a.text(1)?);
    let pattern =
        glob(&pattern).ok_or_else(|| quoting_error(format!("`{pattern}` is not a valid file name pattern")))?;
    let mut found = Vec::new();
    walk(&folder, &folder, &mut found)
        .map_err(|error| quoting_error(format!("cannot list {}: {error}", folder.display())))?;
    found.retain(|path| pattern.is_match(path));
    found.sort();
    Ok(Value::from(found))
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if path.is_file() {
            found.extend(path.strip_prefix(root).ok().map(|path| path.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}

/// Converts a glob pattern to a regular expression.
fn glob(pattern: &str) -> Option<regex::Regex> {
    let mut out = String::from("^");
    let mut rest = pattern.chars().peekable();
    let mut groups = 0;
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let folder = rest.next_if_eq(&'/').is_some();
                out.push_str(if folder { "(?:.*/)?" } else { ".*" });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => out.push('['),
            ']' => out.push(']'),
            '{' => {
                groups += 1;
                out.push_str("(?:");
            }
            '}' if groups > 0 => {
                groups -= 1;
                out.push(')');
            }
            ',' if groups > 0 => out.push('|'),
            '-' => out.push('-'),
            '!' if out.ends_with('[') => out.push('^'),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    regex::Regex::new(&out).ok()
}

//! The values of variables: their sources and their validation.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::syntax::explain;
use super::{Condition, Manifest, Variable, VariableType};
use crate::expression::{Expr, Files, Reference, Scope as ReferenceScope, Unresolved, plain_toml};
use crate::model::{Diagnostic, Span, Value, error_codes, suggest};
use crate::state::bounded;

/// The prefix of the environment variables that assign variables.
const ENVIRONMENT: &str = "MOORFAST_VAR_";

/// The sources of variable values. Later ones take precedence: the variables of the process, `*.auto.vars.toml` files beside the manifest, the files and
/// the values of the manifest's chosen environment, the files of `-var-file`, the arguments of `-var`.
#[derive(Clone, Default)]
pub struct Assignments {
    /// The environment of the process. Only names that start with `MOORFAST_VAR_` are read.
    pub environment: Vec<(String, String)>,
    /// The files of `-var-file`, in order.
    pub files: Vec<PathBuf>,
    /// The arguments of `-var`, `name=value`, in order.
    pub arguments: Vec<String>,
    /// Whether a required variable that is not set is an unknown value of its type. Otherwise it is an error.
    pub missing_is_unknown: bool,
}

impl fmt::Debug for Assignments {
    /// Shows only names: any value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |assignment: &String| assignment.split('=').next().map(str::to_owned);
        f.debug_struct("Assignments")
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("files", &self.files)
            .field("arguments", &self.arguments.iter().filter_map(name).collect::<Vec<_>>())
            .finish()
    }
}

/// A value of a variable and its source.
struct Assigned {
    value: Raw,
    origin: String,
}

enum Raw {
    /// From the environment or the command line.
    Text(String),
    /// From a TOML file.
    Value(Value),
}

impl Manifest {
    /// Returns the value of each variable.
    ///
    /// # Errors
    /// Returns all errors: required variables that are not set, values of a wrong type, unknown variables, failed validations.
    pub fn variables(&self, assignments: &Assignments) -> Result<BTreeMap<String, Value>, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut assigned = BTreeMap::new();
        for (name, text) in &assignments.environment {
            if let Some(name) = name.strip_prefix(ENVIRONMENT)
                && self.variables.contains_key(name)
            {
                let origin = format!("the environment variable {ENVIRONMENT}{name}");
                assigned.insert(name.to_owned(), Assigned { value: Raw::Text(text.clone()), origin });
            }
        }
        for path in automatic_files(&self.root) {
            match self.files().check(&path) {
                Ok(()) => self.read_file(&path, &mut assigned, &mut errors),
                Err(message) => errors.push(Diagnostic::error(message)),
            }
        }
        self.assign_of_environment(&mut assigned, &mut errors);
        for path in &assignments.files {
            self.read_file(path, &mut assigned, &mut errors);
        }
        for argument in &assignments.arguments {
            self.read_argument(argument, &mut assigned, &mut errors);
        }
        let mut values = BTreeMap::new();
        for (name, variable) in &self.variables {
            let found = match assigned.remove(name) {
                None if assignments.missing_is_unknown && variable.default.is_none() => Ok(variable.unknown()),
                found => self.value_of(name, variable, found),
            };
            match found {
                Ok(value) => {
                    values.insert(name.clone(), value);
                }
                Err(error) => errors.push(*error),
            }
        }
        for (name, variable) in &self.variables {
            if let Some(value) = values.get(name) {
                errors.extend(variable.violations(name, value, self.files()));
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    /// Assigns the values of the chosen environment: first its files, then its own values.
    fn assign_of_environment(&self, assigned: &mut BTreeMap<String, Assigned>, errors: &mut Vec<Diagnostic>) {
        let Some((chosen, environment)) = self.chosen() else { return };
        for (file, span) in &environment.var_files {
            let mut found = Vec::new();
            let path = self.root.join(file);
            match self.files().check(&path) {
                Ok(()) => self.read_file(&path, assigned, &mut found),
                Err(message) => found.push(Diagnostic::error(message)),
            }
            errors.extend(found.into_iter().map(|error| error.at(*span, "")));
        }
        for (name, _, value) in &environment.variables {
            let origin = format!("environments.{chosen}");
            assigned.insert(name.clone(), Assigned { value: Raw::Value(value.clone()), origin });
        }
    }

    fn unknown(&self, name: &str, origin: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(format!("{origin}: the manifest has no variable `{name}`"))
            .code(error_codes::UNKNOWN_VARIABLE);
        Diagnostic { help: suggest(name, self.variables.keys().map(String::as_str)), ..diagnostic }
    }

    fn read_argument(&self, argument: &str, assigned: &mut BTreeMap<String, Assigned>, errors: &mut Vec<Diagnostic>) {
        // The value may be a secret: it is not part of any message.
        let Some((name, text)) = argument.split_once('=') else {
            errors.push(Diagnostic::error("the argument of -var has no `=`").help("write -var 'name=value'"));
            return;
        };
        let name = name.trim();
        if !self.variables.contains_key(name) {
            errors.push(self.unknown(name, "-var"));
            return;
        }
        let origin = format!("-var {name}");
        assigned.insert(name.to_owned(), Assigned { value: Raw::Text(text.to_owned()), origin });
    }

    fn read_file(&self, path: &Path, assigned: &mut BTreeMap<String, Assigned>, errors: &mut Vec<Diagnostic>) {
        let text = match bounded::read_text(path, bounded::TEXT) {
            Ok(text) => text,
            Err(error) => return errors.push(Diagnostic::error(format!("cannot read {}: {error}", path.display()))),
        };
        let place = |at: usize| {
            let before = text.get(..at).unwrap_or_default();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("{}:{}:{column}", path.display(), before.matches('\n').count() + 1)
        };
        let table = match DeTable::parse(&text) {
            Ok(table) => table,
            Err(error) => {
                let at = place(error.span().map_or(0, |span| span.start));
                let (reason, help) = explain(error.message());
                let diagnostic = Diagnostic::error(format!("{at}: this is not valid TOML: {reason}"));
                return errors.push(Diagnostic { help, ..diagnostic });
            }
        };
        for (key, value) in table.get_ref().iter() {
            let (name, origin) = (key.get_ref().as_ref(), place(key.span().start));
            if !self.variables.contains_key(name) {
                errors.push(self.unknown(name, &origin));
                continue;
            }
            match plain_toml(value.get_ref()) {
                Ok(value) => {
                    assigned.insert(name.to_owned(), Assigned { value: Raw::Value(value), origin });
                }
                Err(problem) => errors.push(Diagnostic::error(format!("{origin}: {problem}"))),
            }
        }
    }

    fn value_of(&self, name: &str, variable: &Variable, assigned: Option<Assigned>) -> Result<Value, Box<Diagnostic>> {
        let Some(Assigned { value, origin }) = assigned else {
            let missing = || {
                let chosen = self.chosen().map(|(chosen, _)| format!(", [environments.{chosen}]"));
                let help = format!(
                    "set it with -var '{name}=…', {ENVIRONMENT}{name}{} or `{name} = …` in a *.vars.toml file",
                    chosen.unwrap_or_default()
                );
                let error = Diagnostic::error(format!("the variable `{name}` is not set"))
                    .code(error_codes::MISSING_VARIABLE)
                    .at(variable.span, "");
                Box::new(error.help(help))
            };
            let value = variable.default.clone().ok_or_else(missing)?;
            return Ok(if variable.sensitive { value.sensitive() } else { value });
        };
        let invalid = |message: String| {
            let summary = format!("{origin}: the value is not valid for the variable `{name}`");
            Box::new(Diagnostic::error(summary).at(variable.span, message))
        };
        let value = match value {
            Raw::Value(value) => value,
            Raw::Text(text) if variable.kind == VariableType::String => Value::String(text),
            Raw::Text(text) => match evaluate_text(&text) {
                Ok(value) => value,
                Err(_) if variable.kind == VariableType::Any => Value::String(text),
                Err(_) => return Err(invalid(format!("must be of type {}", variable.kind))),
            },
        };
        variable.convert(value).map_err(invalid)
    }
}

impl Variable {
    /// Returns the errors of the validations that the value of the variable `name` does not satisfy.
    pub(crate) fn violations(&self, name: &str, value: &Value, files: Files) -> Vec<Diagnostic> {
        let scope = ValidationScope { name, value, files };
        self.validations.iter().filter_map(|validation| validate(&scope, self.span, validation)).collect()
    }
}

/// Returns the `*.auto.vars.toml` files of the manifest's folder, sorted by name.
fn automatic_files(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".auto.vars.toml"))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Evaluates a text as an HCL expression. JSON is valid HCL.
fn evaluate_text(text: &str) -> Result<Value, Vec<Diagnostic>> {
    let span = Span { file: usize::MAX, start: 0, end: text.len() };
    let expr = Expr::expression(text, span).map_err(|error| vec![*error])?;
    expr.evaluate(&EmptyScope { files: Files::default() })
}

/// A scope without references.
struct EmptyScope {
    files: Files,
}

impl ReferenceScope for EmptyScope {
    fn resolve(&self, _: &Reference) -> Result<Arc<Value>, Unresolved> {
        Err(Unresolved::new("references are not available here"))
    }

    fn files(&self) -> &Files {
        &self.files
    }
}

/// The scope of a validation: only the variable itself.
struct ValidationScope<'v> {
    name: &'v str,
    value: &'v Value,
    files: Files,
}

impl ReferenceScope for ValidationScope<'_> {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        match reference {
            Reference::Variable(name) if name == self.name => Ok(Arc::new(self.value.clone())),
            _ => Err(Unresolved::new(format!("only `var.{}` is available here", self.name))),
        }
    }

    fn files(&self) -> &Files {
        &self.files
    }
}

/// Returns the error if the value does not satisfy the validation.
fn validate(scope: &ValidationScope, span: Span, validation: &Condition) -> Option<Diagnostic> {
    let condition = match validation.condition.evaluate(scope) {
        Ok(value) => value,
        Err(errors) => return errors.into_iter().next(),
    };
    match crate::model::convert::to_bool(&condition) {
        Some(true) => None,
        None if condition.is_unknown() => None,
        None => Some(Diagnostic::error("a condition must be true or false").at(validation.condition.span, "")),
        Some(false) => {
            let message = validation.error_message.evaluate(scope).ok().filter(|message| !message.is_sensitive());
            let message = message
                .as_ref()
                .and_then(Value::as_str)
                .unwrap_or("the value does not satisfy this condition")
                .to_owned();
            let summary = format!("the value of the variable `{}` is not valid", scope.name);
            Some(Diagnostic::error(summary).at(validation.condition.span, message).related(span, "the variable"))
        }
    }
}

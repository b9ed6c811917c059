//! `[environments.NAME]`: the values that differ between the places to which one manifest is applied.

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Reader};
use super::{Block, Environment, Manifest, variable};
use crate::expression::Expr;
use crate::model::{Diagnostic, Span, Value, error_codes, suggest};
use crate::state::EnvironmentName;

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let span = reader.span(table.span());
    let block = format!("the environment `{name}`");
    let (Ok(name), Some(mut fields)) = (name.parse::<EnvironmentName>(), reader.fields(table, &block)) else { return };
    let environment = Environment {
        span,
        variables: variables(reader, fields.take("variables"), &block),
        var_files: reader.texts(fields.take("var_files")),
        backend: backend(reader, fields.take("backend"), &block),
    };
    reader.finish(fields, &block);
    loader.manifest.environments.insert(name, environment);
}

fn variables<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>, block: &str) -> Vec<(String, Span, Value)> {
    let Some(entry) = entry else { return Vec::new() };
    let members = reader.table(entry.value, &format!("`variables` of {block}")).unwrap_or_default();
    let value = |member: Entry<'a>| {
        let (value, _) = variable::literal(reader, member.value, "the value of a variable in an environment")?;
        Some((member.name, member.span, value))
    };
    members.into_iter().filter_map(value).collect()
}

fn backend<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>, block: &str) -> Vec<(String, Span, Expr)> {
    let Some(entry) = entry else { return Vec::new() };
    let members = reader.table(entry.value, &format!("`backend` of {block}")).unwrap_or_default();
    reader.attributes(members)
}

impl Manifest {
    /// Returns this manifest in an environment, which should be one of [`Manifest::environments`].
    #[must_use]
    pub fn in_environment(self, environment: Option<EnvironmentName>) -> Self {
        Self { environment, ..self }
    }

    /// Returns the block of the chosen environment.
    pub(super) fn chosen(&self) -> Option<(&EnvironmentName, &Environment)> {
        self.environments.get_key_value(self.environment.as_ref()?)
    }

    /// Returns the type of the backend and its block, with the settings that the chosen environment replaces.
    pub fn backend_block(&self) -> Option<(&str, Block)> {
        let (name, block) = self.backend.as_ref()?;
        let of_environment = self.chosen().map(|(_, environment)| environment.backend.as_slice()).unwrap_or_default();
        let is_replaced = |name: &String| of_environment.iter().any(|(other, ..)| other == name);
        let of_block = block.attributes.iter().filter(|(name, ..)| !is_replaced(name));
        Some((name, Block { span: block.span, attributes: of_block.chain(of_environment).cloned().collect() }))
    }

    /// Returns the errors of the environments: unknown variables, values of a wrong type, settings of a backend that the manifest does not have.
    pub(super) fn invalid_environments(&self) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        for environment in self.environments.values() {
            for (name, span, value) in &environment.variables {
                let Some(variable) = self.variables.get(name) else {
                    let error = Diagnostic::error(format!("the manifest has no variable `{name}`"))
                        .code(error_codes::UNKNOWN_VARIABLE)
                        .at(*span, "");
                    let help = suggest(name, self.variables.keys().map(String::as_str));
                    errors.push(Diagnostic { help, ..error });
                    continue;
                };
                if let Err(message) = variable.convert(value.clone()) {
                    let summary = format!("the value is not valid for the variable `{name}`");
                    errors.push(Diagnostic::error(summary).at(*span, message).related(variable.span, "the variable"));
                }
            }
            if let (None, Some((_, span, _))) = (&self.backend, environment.backend.first()) {
                let summary =
                    "`backend` of an environment replaces settings of [backend.TYPE], and the manifest has none";
                errors.push(Diagnostic::error(summary).at(*span, "").help("add [backend.kubernetes], for example"));
            }
        }
        errors
    }
}

/// Returns the value of `environment` in an expression. Without a chosen environment, its name is unknown.
pub(crate) fn environment_value(manifest: &Manifest) -> Value {
    let name = manifest.environment.as_ref().map_or(Value::Unknown, |name| Value::from(name.as_str()));
    Value::Map([("name".to_owned(), name)].into())
}

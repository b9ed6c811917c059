//! `moorfast explain`

use moorfast_engine::expression::functions;
use moorfast_engine::manifest::{Manifest, Resource};
use moorfast_engine::model::{Address, Mode, Pattern, Schema, nearest};
use moorfast_engine::reference::{
    BlockSchemas, attribute_reference, function_reference, functions_reference, reference,
};

use super::docs;
use crate::completer::{Names, completer};
use crate::error::Error;
use crate::error_codes;
use crate::exit::{self, Exit};
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::explanation::{self, Instances, markdown};
use crate::render::text::Text;

const EXAMPLES: &str = r#"Examples:
  moorfast explain M0104                   explain an error
  moorfast explain ssh_file                describe a resource type
  moorfast explain ssh_file.content        describe an attribute
  moorfast explain templatefile            describe a function
  moorfast explain types                   list all types; also `functions`, `errors`, `exit-codes`"#;

/// The lists, for `explain` without a name.
const LISTS: &str =
    "`moorfast explain NAME` explains an error code, a type, an attribute, a function, or an address of the manifest.

These names list what there is:

    types         providers, resource types and data sources
    functions     functions of expressions
    errors        error codes
    exit-codes    exit codes of moorfast
";

/// Explain an error code, a type, an attribute, a function, an address or an environment.
///
/// Explains an error code (`M0104`), a resource type (`ssh_file`), a data source (`data.ssh_facts`), an attribute (`ssh_file.content`), the configuration of a provider or a backend
/// (`providers.ssh`, `backend.s3`), a function (`join`), or what the manifest says at an address (`ssh_file.motd`, `module.web`) or about an environment
/// (`production`). `types`, `functions`, `errors` and `exit-codes` are lists of all of them. Reads only the manifest.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Explain {
    /// The error code, type, attribute, function, address, environment or list
    #[arg(add = completer(Names::Explained))]
    name: Option<String>,
    #[command(flatten)]
    inputs: Inputs,
}

impl Explain {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let Some(name) = &self.name else {
            invocation.ui.out(markdown(LISTS))?;
            return Ok(Exit::Success);
        };
        let name = name.trim().trim_end_matches("()");
        let codes = error_codes::all(&invocation.providers);
        if let Some(code) = codes.iter().find(|code| code.as_str().eq_ignore_ascii_case(name)) {
            invocation.ui.out(markdown(code.page()))?;
            return Ok(Exit::Success);
        }
        // A type is explained without a manifest, and with one that is not valid.
        let manifest = invocation.any_manifest().ok();
        let declared = match &manifest {
            Some(manifest) => self.declared(invocation, manifest, name)?,
            None => None,
        };
        let text = match declared {
            Some(text) => text,
            None => match list(name, invocation) {
                Some(list) => markdown(&list),
                None => markdown(&documentation(name, invocation.catalogue(), manifest.as_deref())?),
            },
        };
        invocation.ui.out(text)?;
        Ok(Exit::Success)
    }

    /// Explains what the manifest declares with this name, if it declares anything.
    fn declared(&self, invocation: &Invocation, manifest: &Manifest, name: &str) -> Result<Option<Text>, Error> {
        if let Some((_, environment)) = manifest.environments.iter().find(|(known, _)| known.as_str() == name) {
            return Ok(Some(explanation::environment(manifest, name, environment)));
        }
        match name.parse() {
            Ok(Pattern::Module(path)) => match manifest.call(&path) {
                Some(call) => {
                    let instances = self.instances(invocation, manifest, &Pattern::Module(path))?;
                    Ok(Some(explanation::module(manifest, name, call, &instances)))
                }
                None => Ok(None),
            },
            Ok(Pattern::Resource(address)) => match manifest.resource(&address.resource) {
                Some(block) => self.resource(invocation, manifest, &address, block).map(Some),
                None => Ok(None),
            },
            Err(_) => Ok(None),
        }
    }

    /// Returns the instances that `pattern` selects.
    fn instances(&self, invocation: &Invocation, manifest: &Manifest, pattern: &Pattern) -> Result<Instances, Error> {
        let instances = invocation.workspace(&self.inputs).and_then(|workspace| {
            let found = workspace.instances(pattern);
            found.map_err(|diagnostics| Error::Manifest { sources: manifest.sources.clone(), diagnostics })
        });
        match instances {
            Ok(found) => Ok(Instances::Known(found)),
            Err(error @ Error::Manifest { .. }) => Ok(Instances::Unknown(error.first_summary())),
            Err(error) => Err(error),
        }
    }

    /// Explains the address of a resource or an instance.
    fn resource(
        &self,
        invocation: &Invocation,
        manifest: &Manifest,
        declared: &Address,
        block: &Resource,
    ) -> Result<Text, Error> {
        let resource = Pattern::Resource(declared.resource.instance(None));
        let instances = self.instances(invocation, manifest, &resource)?;
        if let (Some(_), Instances::Known(known)) = (&declared.key, &instances)
            && !known.iter().any(|instance| instance.matches(&Pattern::Resource(declared.clone())))
        {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            return Err(unknown(&declared.to_string(), "instance", known.iter().map(String::as_str)));
        }
        let types = schemas(invocation.catalogue());
        let name = match declared.resource.mode {
            Mode::Managed => declared.resource.resource_type.clone(),
            Mode::Data => format!("data.{}", declared.resource.resource_type),
        };
        let resource_type = types.iter().find(|(title, _)| *title == name);
        Ok(explanation::resource(manifest, declared, block, &instances, resource_type))
    }
}

/// Returns the list with this name.
fn list(name: &str, invocation: &Invocation) -> Option<String> {
    match name {
        "types" => Some(docs::types(&invocation.providers)),
        "functions" => Some(functions_reference()),
        "errors" => Some(docs::errors(&invocation.providers)),
        "exit-codes" => Some(exit::reference()),
        _ => None,
    }
}

/// Returns the documentation of a type, an attribute, a function, a provider or a backend in Markdown.
fn documentation(name: &str, catalogue: BlockSchemas, manifest: Option<&Manifest>) -> Result<String, Error> {
    let schemas = schemas(catalogue);
    if let Some((title, schema)) = schemas.iter().find(|(title, _)| title == name) {
        return Ok(reference(title, schema));
    }
    if let Some(text) = function_reference(name) {
        return Ok(text);
    }
    let is_inside = |title: &str| name.strip_prefix(title).is_some_and(|rest| rest.starts_with('.'));
    if let Some((title, schema)) = schemas.iter().find(|(title, _)| is_inside(title)) {
        let path: Vec<_> = name.split('.').skip(title.split('.').count()).collect();
        return attribute_reference(title, schema, &path).map_err(|mut known| {
            known.extend(declared_names(manifest));
            unknown(name, "attribute or address", known.iter().map(String::as_str))
        });
    }
    let mut known = names(schemas);
    known.extend(declared_names(manifest));
    Err(unknown(name, "type, function, address or environment", known.iter().map(String::as_str)))
}

/// Returns the addresses of a manifest and the names of its environments.
fn declared_names(manifest: Option<&Manifest>) -> impl Iterator<Item = String> {
    let environments = |manifest: &Manifest| manifest.environments.keys().map(ToString::to_string).collect::<Vec<_>>();
    manifest.into_iter().flat_map(move |manifest| manifest.addresses().into_iter().chain(environments(manifest)))
}

fn unknown<'a>(name: &str, kind: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let help = match nearest(name, known) {
        _ if is_code(name) => "`moorfast explain errors` lists all error codes".to_owned(),
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => {
            "`moorfast explain types` and `explain functions` list all types and functions, `moorfast graph` all addresses"
                .to_owned()
        }
    };
    Error::usage(format!("cannot explain `{name}`: there is no such {kind}"), help)
}

/// Whether `name` has the form of an error code.
fn is_code(name: &str) -> bool {
    name.strip_prefix(['M', 'm']).is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the schemas of the types, providers and backends by the names under which they are explained.
fn schemas(catalogue: BlockSchemas) -> Vec<(String, Schema)> {
    let resources = catalogue.resource_types.into_iter().map(|kind| (kind.name.to_owned(), kind.schema));
    let data = catalogue.data_sources.into_iter().map(|kind| (format!("data.{}", kind.name), kind.schema));
    let providers = catalogue.providers.into_iter().map(|(name, schema)| (format!("providers.{name}"), schema));
    let backends = catalogue.backends.into_iter().map(|(name, schema)| (format!("backend.{name}"), schema));
    resources.chain(data).chain(providers).chain(backends).collect()
}

/// Returns the names of everything that can be explained without a manifest.
pub fn explained_names(catalogue: BlockSchemas) -> Vec<String> {
    names(schemas(catalogue))
}

fn names(schemas: Vec<(String, Schema)>) -> Vec<String> {
    let schemas = schemas.into_iter().map(|(title, _)| title);
    schemas.chain(functions().iter().map(|function| function.name.to_owned())).collect()
}

//! The data source `local_outputs`: the outputs of another site.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, unseal};
use moorfast_engine::provider::{
    Class, Context, DataRequest, Declaration, Invalid, LocalAccess, ProviderError, TargetKind,
};
use moorfast_engine::state::{Location, Store};

use crate::arguments::resolved;
use crate::data::Data;

/// How long the state may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The data source `local_outputs`.
pub(crate) struct Outputs;

#[async_trait]
impl Data for Outputs {
    fn declaration(&self) -> Declaration {
        let doc = "The outputs of another site, as its last apply recorded them. Its state is only read, also while another run holds its lock.\n\n\
            A state contains no sensitive values, only their digests. Therefore a sensitive output cannot be read: `outputs` does not contain it, and naming \
            it in `names` is an error. Give the secret to both sites from its source, for example with `age_decrypt` or `local_command`.";
        let schema = Schema::new(
            doc,
            [
                Attribute::optional(
                    "state",
                    Kind::String,
                    "Folder of the state, for example `../network/.moorfast`. A relative path starts at the folder of the manifest.",
                ),
                Attribute::optional(
                    "backend",
                    Kind::map(Kind::map(Kind::String)),
                    "Backend of the state, instead of `state`: the `[backend.TYPE]` of the other site, for example \
                     `{ s3 = { bucket = \"states\", prefix = \"network\" } }`. Credentials are read from the environment.",
                ),
                Attribute::optional(
                    "names",
                    Kind::list(Kind::String),
                    "Names of the outputs to read. Each of them must exist and must not be sensitive. Default: all outputs that are not sensitive. \
                     With names, a saved plan is not stale after a change of other outputs.",
                ),
                Attribute::computed("outputs", Kind::map(Kind::Any), "Values by name."),
            ],
        );
        Declaration { name: "local_outputs", target_kind: TargetKind::Provider, schema }
    }

    fn access(&self) -> LocalAccess {
        LocalAccess::State
    }

    fn validate(&self, arguments: &Attributes) -> Vec<Invalid> {
        let is_set = |name: &str| arguments.is_set(name);
        if is_set("state") == is_set("backend") {
            return vec![Invalid::block("exactly one of `state` and `backend` must be set")];
        }
        if arguments.get("backend").is_none_or(|backend| backend.is_null() || backend.is_unknown()) {
            return Vec::new();
        }
        location(arguments).err().map(|message| Invalid::new("backend", message)).into_iter().collect()
    }

    async fn read(&self, context: &Context, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let invalid = |message: String| ProviderError::new(Class::Invalid, message).attribute("backend");
        let location = location(arguments).map_err(invalid)?.in_folder(&context.root);
        let folder = arguments.text("state").map(|folder| resolved(&context.root, folder)).unwrap_or_default();
        let limit = request.timeout.unwrap_or(TIMEOUT);
        let sealed =
            tokio::time::timeout(limit, sealed_outputs(&location, folder, arguments)).await.map_err(|_| {
                ProviderError::new(Class::Timeout, format!("{} did not answer within {limit:?}", place(arguments)))
            })??;
        Ok([("outputs".to_owned(), Value::Map(readable(&sealed, arguments)?))].into())
    }
}

/// The recorded outputs, in which sensitive values are digests.
type SealedOutputs = BTreeMap<String, serde_json::Value>;

async fn sealed_outputs(
    location: &Location,
    folder: PathBuf,
    arguments: &Attributes,
) -> Result<SealedOutputs, ProviderError> {
    let failed = |error| ProviderError::new(Class::Failed, format!("cannot read {}: {error}", place(arguments)));
    let store = Store::open_existing_at(location, &folder).await.map_err(failed)?.ok_or_else(|| {
        ProviderError::new(Class::Failed, format!("{} does not exist", place(arguments)))
            .attribute(if arguments.text("state").is_some() { "state" } else { "backend" })
            .help("apply the other site first; if it has a [backend.*], write the same settings in `backend`")
    })?;
    let snapshot = store.snapshot().await.map_err(failed)?;
    Ok(snapshot.outputs.into_iter().map(|(name, output)| (name, output.value)).collect())
}

/// Returns the values of the outputs that `names` selects.
fn readable(sealed: &SealedOutputs, arguments: &Attributes) -> Result<Attributes, ProviderError> {
    // A state contains a digest in place of a sensitive value.
    let value =
        |sealed: &serde_json::Value| Some(unseal(sealed, &|_| Value::Unknown)).filter(|value| !value.is_unknown());
    if arguments.get("names").is_none_or(Value::is_null) {
        return Ok(sealed.iter().filter_map(|(name, sealed)| Some((name.clone(), value(sealed)?))).collect());
    }
    let read = |name: String| match sealed.get(&name).map(value) {
        Some(Some(value)) => Ok((name, value)),
        Some(None) => Err(failed(arguments, format!("the output `{name}` is sensitive, so its value is not in"))
            .help("give the secret to both sites from its source, for example with age_decrypt() or local_command")),
        None => {
            let known: Vec<_> = sealed.keys().map(|name| format!("`{name}`")).collect();
            let help = if known.is_empty() {
                "it has no outputs".to_owned()
            } else {
                format!("its outputs are {}", known.join(", "))
            };
            Err(failed(arguments, format!("there is no output `{name}` in")).help(help))
        }
    };
    arguments.texts("names").into_iter().map(read).collect()
}

fn failed(arguments: &Attributes, what: String) -> ProviderError {
    ProviderError::new(Class::Failed, format!("{what} {}", place(arguments))).attribute("names")
}

/// Returns the location that the arguments name.
///
/// # Errors
/// The violated rule.
fn location(arguments: &Attributes) -> Result<Location, String> {
    let Some(backend) = arguments.get("backend").filter(|value| !value.is_null()) else {
        return Ok(Location::Sqlite {});
    };
    let types: Vec<_> = backend.as_map().into_iter().flatten().collect();
    let [(kind, settings)] = types[..] else {
        return Err("`backend` must have one member: `kubernetes`, `postgres` or `s3`".to_owned());
    };
    if kind == "sqlite" {
        return Err("write the folder of the state in `state` instead of `backend`".to_owned());
    }
    let mut json = settings.to_json().unwrap_or_default();
    if let Some(members) = json.as_object_mut() {
        members.retain(|_, value| !value.is_null());
        members.insert("type".to_owned(), kind.as_str().into());
    }
    serde_json::from_value(json).map_err(|error| format!("`backend`: {error}"))
}

/// Returns the state for messages.
fn place(arguments: &Attributes) -> String {
    match arguments.text("state") {
        Some(folder) => format!("the state in {folder}"),
        None => {
            let types = arguments.get("backend").and_then(Value::as_map);
            let kind = types.and_then(|types| types.keys().next()).map_or("", String::as_str);
            format!("the state in the backend `{kind}`")
        }
    }
}

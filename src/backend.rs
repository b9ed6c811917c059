//! The backend of the state: the one that the manifest configures in `[backend.TYPE]`, and the one that was recorded when the state was last opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::mem::discriminant;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moorfast_engine::manifest::{Block, Manifest, StaticScope, check_attributes};
use moorfast_engine::model::{Attribute, Diagnostic, Kind, Schema, Severity, Value, is_inside, nearest};
use moorfast_engine::state::{Lineage, Location, Snapshot, Store, bounded};
use moorfast_kubeconfig::is_chosen_by_user;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::Error;

/// The file in the data folder that records the backend of the state.
const RECORD: &str = "backend.json";

/// Returns the schema of each `[backend.TYPE]`.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    let text = |name, doc| Attribute::optional(name, Kind::String, doc);
    vec![
        ("sqlite", Schema::new("A database in the folder `.moorfast` beside the manifest. This is the default.", [])),
        (
            "kubernetes",
            Schema::new(
                "Secrets in a Kubernetes cluster, with a Lease as the lock.",
                [
                    text("name", "The prefix of the object names. Each name is a separate state.")
                        .or("moorfast".to_owned()),
                    text("namespace", "An existing namespace. Defaults to the namespace of the context."),
                    text(
                        "kubeconfig",
                        "The kubeconfig file. Defaults to `$KUBECONFIG`, `~/.kube/config` or the pod's ServiceAccount.",
                    ),
                    text("context", "The context of the kubeconfig."),
                ],
            ),
        ),
        (
            "postgres",
            Schema::new(
                "Rows in a PostgreSQL database. The password is read from `$PGPASSWORD`.",
                [
                    Attribute::required(
                        "url",
                        Kind::String,
                        "The URL of the database without a password: `postgresql://user@host:5432/database?sslmode=require`.",
                    ),
                    text("name", "The name of the state. A database can store several states.")
                        .or("moorfast".to_owned()),
                ],
            ),
        ),
        (
            "s3",
            Schema::new(
                "Objects in a bucket of S3 or a compatible server with conditional writes. Credentials are read from the environment (`AWS_ACCESS_KEY_ID` and so on).",
                [
                    Attribute::required("bucket", Kind::String, "An existing bucket."),
                    text("prefix", "The prefix of the object names. Each prefix is a separate state.")
                        .or("moorfast".to_owned()),
                    text("region", "The region. Defaults to `$AWS_REGION`."),
                    text("endpoint", "The URL of the server. Defaults to Amazon's."),
                ],
            ),
        ),
    ]
}

/// Returns the location that the manifest configures for its state in the chosen environment.
///
/// # Errors
/// If the `[backend.TYPE]` block is invalid.
pub fn configured(manifest: &Manifest, variables: &BTreeMap<String, Value>) -> Result<Location, Error> {
    location(manifest, variables)
        .map(|location| location.in_environment(manifest.environment.as_ref()))
        .map_err(|diagnostics| Error::Manifest { sources: manifest.sources.clone(), diagnostics })
}

/// Returns the errors of the backend that do not depend on values that are unknown.
pub fn check(manifest: &Manifest, variables: &BTreeMap<String, Value>) -> Vec<Diagnostic> {
    settings(manifest, variables).err().unwrap_or_default()
}

/// The settings of a backend.
struct Settings {
    values: Map<String, Json>,
    /// The errors of the settings that depend on a variable without a value.
    unknown: Vec<Diagnostic>,
}

fn location(manifest: &Manifest, variables: &BTreeMap<String, Value>) -> Result<Location, Vec<Diagnostic>> {
    let Some((name, Block { span, .. })) = manifest.backend_block() else { return Ok(Location::Sqlite {}) };
    let Settings { values, unknown } = settings(manifest, variables)?;
    if !unknown.is_empty() {
        return Err(unknown);
    }
    serde_json::from_value(Json::Object(values))
        .map_err(|error| vec![Diagnostic::error(format!("backend `{name}`: {error}")).at(span, "")])
}

fn settings(manifest: &Manifest, variables: &BTreeMap<String, Value>) -> Result<Settings, Vec<Diagnostic>> {
    let mut settings = Settings { values: Map::new(), unknown: Vec::new() };
    let Some((name, Block { span, attributes })) = manifest.backend_block() else { return Ok(settings) };
    let schemas = schemas();
    let Some((_, schema)) = schemas.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = schemas.iter().map(|(name, _)| *name).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the backends are: {}", names.join(", ")),
        };
        let error = Diagnostic::error(format!("unknown backend `{name}`")).at(span, "").help(help);
        return Err(vec![error]);
    };
    let mut problems = check_attributes(schema, &format!("backend `{name}`"), span, &attributes);
    let files = manifest.files();
    let scope = StaticScope::new(manifest, variables, &files);
    settings.values.insert("type".to_owned(), Json::from(name));
    for (attribute, _, expr) in &attributes {
        let error =
            |why, help| Diagnostic::error(format!("`{attribute}` of the backend {why}")).at(expr.span, "").help(help);
        match expr.evaluate(&scope) {
            Ok(Value::Null) => {}
            Ok(value) if value.is_sensitive() => problems.push(error(
                "is sensitive",
                "the place of the state is recorded and shown; credentials come from the environment of the process",
            )),
            Ok(value) if value.is_unknown() => settings.unknown.push(error(
                "depends on a variable that is not set",
                "every command that opens the state needs the value: set it in [environments.NAME], a *.auto.vars.toml file or MOORFAST_VAR_NAME",
            )),
            Ok(value) => _ = settings.values.insert(attribute.clone(), value.to_json().unwrap_or_default()),
            Err(found) => problems.extend(found),
        }
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) { Err(problems) } else { Ok(settings) }
}

/// The location and the lineage of the state when it was last opened on this machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The location.
    pub backend: Location,
    /// The lineage.
    pub lineage: Lineage,
}

/// Reads the record. Returns `None` if the state was in the data folder or did not exist.
///
/// # Errors
/// If the record cannot be read.
pub fn recorded(data_dir: &Path) -> Result<Option<Record>, Error> {
    let path = data_dir.join(RECORD);
    let text = match bounded::read_text(&path, bounded::TEXT) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::file("read", &path))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::usage(
            format!("cannot read the recorded backend in {}: {error}", path.display()),
            "use the newer moorfast that wrote it; if the file is damaged, remove it, and the backend in the manifest is used",
        )
    })
}

/// Records the location and the lineage of the state, if the location changed.
///
/// # Errors
/// If the record cannot be written.
pub async fn record(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let known = recorded(data_dir)?;
    let same = known.as_ref().map_or(*location == Location::Sqlite {}, |known| known.backend == *location);
    if same { Ok(()) } else { write_record(data_dir, location, store).await }
}

/// Records the location and the lineage of the state.
///
/// # Errors
/// If the record cannot be written.
pub async fn write_record(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let path = data_dir.join(RECORD);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(Error::file("create the folder", data_dir))?;
    let record = Record { backend: location.clone(), lineage: store.snapshot().await?.lineage };
    let text = serde_json::to_string_pretty(&record).map_err(|error| Error::Output(error.into()))?;
    let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(Error::file("write", &path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(Error::file("write", &path))?;
    file.persist(&path).map_err(|error| Error::file("write", &path)(error.error))?;
    Ok(())
}

/// Checks that the state at `location` has the recorded lineage.
///
/// # Errors
/// If it has another lineage, for example after somebody moved the state.
pub async fn check_lineage(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let Some(known) = recorded(data_dir)?.filter(|known| known.backend == *location) else { return Ok(()) };
    let found = store.snapshot().await?.lineage;
    if found == known.lineage {
        return Ok(());
    }
    Err(Error::usage(
        format!("the state in {} was replaced: its lineage is {found} instead of {}", name(location), known.lineage),
        format!(
            "somebody moved or replaced the state: use their manifest, or remove {} to accept the state that is there now",
            data_dir.join(RECORD).display()
        ),
    ))
}

/// Refuses a backend that an untrusted manifest configures, because its server would receive the credentials of this machine.
///
/// # Errors
/// If the state is neither in a local file nor in the backend that a trusted run recorded in a folder outside the manifest's folder.
pub fn check_untrusted(configured: Option<&Location>, root: &Path, data_dir: &Path) -> Result<(), Error> {
    let known = recorded(data_dir)?.map_or(Location::Sqlite {}, |record| record.backend);
    let nowhere = Path::new("");
    let brought = |location: &Location| match location {
        Location::Sqlite {} => false,
        Location::Kubernetes(config) => config.kubeconfig.as_ref().is_some_and(|file| {
            let file = root.join(file);
            is_inside(root, nowhere, &file) || !is_chosen_by_user(&file)
        }),
        Location::Postgres(_) | Location::S3(_) => false,
    };
    let is_recorded =
        |location: &Location| *location == known && !is_inside(root, nowhere, data_dir) && !brought(location);
    let refused = configured
        .into_iter()
        .chain([&known])
        .find(|location| **location != Location::Sqlite {} && !is_recorded(location));
    match refused {
        None => Ok(()),
        Some(location) => Err(Error::usage(
            format!("`plan --untrusted` does not open the backend that the manifest configures: {}", name(location)),
            "use a state folder (--state) outside the folder of the manifest, and open the state once with a trusted manifest, for example with `moorfast plan`",
        )),
    }
}

/// Returns the location of the state, if the manifest and the record agree on it. Without a manifest, returns the recorded location.
///
/// # Errors
/// If they disagree, and there is a state in the recorded location that must be moved first.
pub async fn agreed(configured: Option<Location>, root: &Path, data_dir: &Path) -> Result<Location, Error> {
    let recorded = recorded(data_dir)?;
    let before = recorded.as_ref().map_or(Location::Sqlite {}, |record| record.backend.clone());
    let configured = configured.unwrap_or_else(|| before.clone());
    if before == configured {
        return Ok(configured);
    }
    if let Some(recorded) = &recorded
        && is_same_state(recorded, &configured, root, data_dir).await?
    {
        return Ok(configured);
    }
    if snapshot_at(&before, root, data_dir).await?.is_none_or(|here| here.is_empty()) {
        return Ok(configured);
    }
    Err(Error::usage(
        format!("the manifest configures the backend {}, but the state is in {}", name(&configured), name(&before)),
        "run `moorfast init --migrate-state` to move the state, or restore the former [backend.*] in the manifest",
    ))
}

/// Returns whether `configured` reaches the recorded state, for example with another kubeconfig. A copy in another type of backend is another
/// state.
async fn is_same_state(recorded: &Record, configured: &Location, root: &Path, data_dir: &Path) -> Result<bool, Error> {
    if discriminant(&recorded.backend) != discriminant(configured) {
        return Ok(false);
    }
    let there = snapshot_at(configured, root, data_dir).await?.filter(|there| there.lineage == recorded.lineage);
    let Some(there) = there else { return Ok(false) };
    // The recorded location may no longer be reachable. Then only the lineage can be compared.
    Ok(match snapshot_at(&recorded.backend, root, data_dir).await {
        Ok(Some(here)) => there.serial >= here.serial,
        Ok(None) | Err(_) => true,
    })
}

/// Checks that no environment has yet to continue the state that the manifest had before it had environments. `store` is the state of the chosen one.
///
/// # Errors
/// If that state still exists, and `store` is empty or a copy of it, after a move that was interrupted.
pub async fn check_without_environment(store: &Store, root: &Path, data_dir: &Path) -> Result<(), Error> {
    let location = recorded(data_dir)?.map_or(Location::Sqlite {}, |record| record.backend);
    let Some(old) = snapshot_at(&location, root, data_dir).await?.filter(|old| !old.is_empty()) else { return Ok(()) };
    if !is_continued_by(&old, &store.snapshot().await?) {
        return Ok(());
    }
    Err(Error::usage(
        format!("the manifest has a state without an environment, in {}", place(&location, data_dir)),
        "run `moorfast init --migrate-state` with the environment that continues it; if none does, remove that state or use another folder (--state DIR)",
    ))
}

/// Whether the state of an environment is the place for the state without an environment: it is empty or has its lineage.
pub fn is_continued_by(without_environment: &Snapshot, of_environment: &Snapshot) -> bool {
    of_environment.is_empty() || of_environment.lineage == without_environment.lineage
}

/// Removes the record of the place of a state that was moved to an environment.
///
/// # Errors
/// If it cannot be removed.
pub fn forget(data_dir: &Path) -> Result<(), Error> {
    let path = data_dir.join(RECORD);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

async fn snapshot_at(location: &Location, root: &Path, data_dir: &Path) -> Result<Option<Snapshot>, Error> {
    match Store::open_existing_at(&location.clone().in_folder(root), data_dir).await? {
        Some(store) => Ok(Some(store.snapshot().await?)),
        None => Ok(None),
    }
}

/// Returns the name of a location in messages.
pub fn name(location: &Location) -> String {
    let attributes = serde_json::to_value(location).unwrap_or_default();
    let mut members: Vec<String> = Vec::new();
    let mut kind = String::new();
    for (member, value) in attributes.as_object().into_iter().flatten() {
        match (member.as_str(), value.as_str()) {
            ("type", Some(text)) => text.clone_into(&mut kind),
            (_, Some(text)) => members.push(format!("{member} {text}")),
            _ => {}
        }
    }
    if members.is_empty() { format!("[backend.{kind}]") } else { format!("[backend.{kind}] ({})", members.join(", ")) }
}

/// Returns the place of the state in messages: the folder of a SQLite state, or the name of its location.
pub fn place(location: &Location, state_dir: &Path) -> String {
    match location {
        Location::Sqlite {} => state_dir.display().to_string(),
        location => name(location),
    }
}

/// Returns the path of a new backup in the data folder.
pub fn backup_path(data_dir: &Path) -> PathBuf {
    data_dir.join("backups").join(format!("{}.json", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ")))
}

//! Where the state is kept: what the manifest says in `[backend.TYPE]`, and what was recorded when the state was last opened.

use std::fs;
use std::io::{ErrorKind, Write};
use std::mem::discriminant;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moorfast_engine::expression::ExprNode;
use moorfast_engine::manifest::{Block, Manifest, check_attributes};
use moorfast_engine::model::{Attribute, Diagnostic, Kind, Schema, Severity, is_inside, nearest};
use moorfast_engine::state::{Lineage, Location, Snapshot, Store, bounded};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::Error;

/// The file beside the state that names where it is.
const RECORD: &str = "backend.json";

/// What each `[backend.TYPE]` takes.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    let text = |name, doc| Attribute::optional(name, Kind::String, doc);
    vec![
        ("sqlite", Schema::new("A database in the folder `.moorfast` beside the manifest. It is the default.", [])),
        (
            "kubernetes",
            Schema::new(
                "Secrets in a Kubernetes cluster, with a Lease as the lock.",
                [
                    text("name", "What the names of the objects begin with; another name is another state.")
                        .or("moorfast".to_owned()),
                    text("namespace", "The namespace, which must exist; that of the context where it is not written."),
                    text(
                        "kubeconfig",
                        "The kubeconfig file; `$KUBECONFIG`, `~/.kube/config` or the pod's ServiceAccount where it is not written.",
                    ),
                    text("context", "The context of the kubeconfig."),
                ],
            ),
        ),
        (
            "postgres",
            Schema::new(
                "Rows in a PostgreSQL database. The password is taken from `$PGPASSWORD`.",
                [
                    Attribute::required(
                        "url",
                        Kind::String,
                        "The database, without a password: `postgresql://user@host:5432/database?sslmode=require`.",
                    ),
                    text("name", "The name of the state; a database has room for many.").or("moorfast".to_owned()),
                ],
            ),
        ),
        (
            "s3",
            Schema::new(
                "Objects in a bucket of S3 or of a server that speaks it and replaces objects conditionally. Credentials are taken from the environment, as `AWS_ACCESS_KEY_ID`.",
                [
                    Attribute::required("bucket", Kind::String, "The bucket, which must exist."),
                    text("prefix", "What the names of the objects begin with; another prefix is another state.")
                        .or("moorfast".to_owned()),
                    text("region", "The region; `$AWS_REGION` where it is not written."),
                    text("endpoint", "The URL of the server, where it is not Amazon's."),
                ],
            ),
        ),
    ]
}

/// Where the manifest keeps its state.
///
/// # Errors
/// What is wrong with its `[backend.TYPE]`.
pub fn wanted(manifest: &Manifest) -> Result<Location, Error> {
    let Some((name, block)) = &manifest.backend else { return Ok(Location::Sqlite {}) };
    location(name, block).map_err(|diagnostics| Error::Manifest { sources: manifest.sources.clone(), diagnostics })
}

fn location(name: &str, block: &Block) -> Result<Location, Vec<Diagnostic>> {
    let schemas = schemas();
    let Some((_, schema)) = schemas.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = schemas.iter().map(|(name, _)| *name).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", names.join(", ")),
        };
        let error = Diagnostic::error(format!("there is no backend `{name}`")).at(block.span, "").help(help);
        return Err(vec![error]);
    };
    let mut problems = check_attributes(schema, &format!("backend `{name}`"), block.span, &block.attributes);
    let mut values = Map::from_iter([("type".to_owned(), Json::from(name))]);
    for (name, _, expr) in &block.attributes {
        match &expr.node {
            ExprNode::Literal(value) => _ = values.insert(name.clone(), value.to_json().unwrap_or_default()),
            _ => problems.push(
                Diagnostic::error(format!("`{name}` of a backend is a plain value"))
                    .at(expr.span, "the state is opened before any expression is evaluated"),
            ),
        }
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    serde_json::from_value(Json::Object(values))
        .map_err(|error| vec![Diagnostic::error(format!("backend `{name}`: {error}")).at(block.span, "")])
}

/// Where the state was when it was last opened from here, and which state it was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where.
    pub backend: Location,
    /// Which.
    pub lineage: Lineage,
}

/// What was recorded. None where the state was in the folder or nowhere.
///
/// # Errors
/// If the record can't be read.
pub fn recorded(data_dir: &Path) -> Result<Option<Record>, Error> {
    let path = data_dir.join(RECORD);
    let text = match bounded::read_text(&path, bounded::TEXT) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::file("read", &path))?,
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::usage(
            format!("{} does not name a place for the state: {error}", path.display()),
            "a newer moorfast may have written it; where it is damaged, remove it: the manifest says where the state is",
        )
    })
}

/// Records where the state is, unless that is known.
///
/// # Errors
/// If the record can't be written.
pub async fn record(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let known = recorded(data_dir)?;
    let same = known.as_ref().map_or(*location == Location::Sqlite {}, |known| known.backend == *location);
    if same { Ok(()) } else { note(data_dir, location, store).await }
}

/// Records where the state is and which it is.
///
/// # Errors
/// If the record can't be written.
pub async fn note(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let path = data_dir.join(RECORD);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(Error::file("make", data_dir))?;
    let record = Record { backend: location.clone(), lineage: store.snapshot().await?.lineage };
    let text = serde_json::to_string_pretty(&record).map_err(|error| Error::Output(error.into()))?;
    let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(Error::file("write", &path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(Error::file("write", &path))?;
    file.persist(&path).map_err(|error| Error::file("write", &path)(error.error))?;
    Ok(())
}

/// Whether the state at `location` is the one that was there before.
///
/// # Errors
/// If it is another one, as after somebody moved it from there.
pub async fn is_the_same(data_dir: &Path, location: &Location, store: &Store) -> Result<(), Error> {
    let Some(known) = recorded(data_dir)?.filter(|known| known.backend == *location) else { return Ok(()) };
    let found = store.snapshot().await?.lineage;
    if found == known.lineage {
        return Ok(());
    }
    Err(Error::usage(
        format!("{} has another state than before: {found} instead of {}", name(location), known.lineage),
        format!(
            "somebody moved it from there or put another one in its place: get their manifest, or remove {} to go on with what is there",
            data_dir.join(RECORD).display()
        ),
    ))
}

/// Refuses a server that somebody else's manifest names for the state: it would get the credentials of this machine.
///
/// # Errors
/// If the state is neither in a file nor on the server that a trusted run recorded in a folder that is not the manifest's.
pub fn check_untrusted(wanted: Option<&Location>, root: &Path, data_dir: &Path) -> Result<(), Error> {
    let known = recorded(data_dir)?.map_or(Location::Sqlite {}, |record| record.backend);
    let nowhere = Path::new("");
    let brought = |location: &Location| match location {
        Location::Sqlite {} => false,
        Location::Kubernetes(config) => {
            config.kubeconfig.as_ref().is_some_and(|file| is_inside(root, nowhere, &root.join(file)))
        }
        Location::Postgres(_) | Location::S3(_) => false,
    };
    let is_recorded =
        |location: &Location| *location == known && !is_inside(root, nowhere, data_dir) && !brought(location);
    let refused =
        wanted.into_iter().chain([&known]).find(|location| **location != Location::Sqlite {} && !is_recorded(location));
    match refused {
        None => Ok(()),
        Some(location) => Err(Error::usage(
            format!("`plan --untrusted` does not open a state that the manifest names: {}", name(location)),
            "keep the state folder (--state) outside of the folder of the manifest, and open the state once with a trusted manifest, as `moorfast init` does",
        )),
    }
}

/// The place of the state, where the manifest and the record agree on it.
///
/// # Errors
/// If they do not, and there is a state that would be left behind.
pub async fn agreed(wanted: Option<Location>, root: &Path, data_dir: &Path) -> Result<Location, Error> {
    let recorded = recorded(data_dir)?;
    let before = recorded.as_ref().map_or(Location::Sqlite {}, |record| record.backend.clone());
    // Without a manifest the record is all there is.
    let wanted = wanted.unwrap_or_else(|| before.clone());
    if before == wanted {
        return Ok(wanted);
    }
    if let Some(recorded) = &recorded
        && is_another_way(recorded, &wanted, root, data_dir).await?
    {
        return Ok(wanted);
    }
    if look(&before, root, data_dir).await?.is_none_or(|here| here.is_empty()) {
        return Ok(wanted);
    }
    Err(Error::usage(
        format!("the manifest keeps the state in {}, but it is in {}", name(&wanted), name(&before)),
        "move it there with `moorfast init -migrate-state`, or give the manifest its former [backend.*] back",
    ))
}

/// Whether `wanted` leads to the recorded state, as by another kubeconfig. A copy of it in another kind of place is another state.
async fn is_another_way(recorded: &Record, wanted: &Location, root: &Path, data_dir: &Path) -> Result<bool, Error> {
    if discriminant(&recorded.backend) != discriminant(wanted) {
        return Ok(false);
    }
    let there = look(wanted, root, data_dir).await?.filter(|there| there.lineage == recorded.lineage);
    let Some(there) = there else { return Ok(false) };
    // The former way may lead nowhere any more, and then the lineage is all that can be asked for.
    Ok(match look(&recorded.backend, root, data_dir).await {
        Ok(Some(here)) => there.serial >= here.serial,
        Ok(None) | Err(_) => true,
    })
}

async fn look(location: &Location, root: &Path, data_dir: &Path) -> Result<Option<Snapshot>, Error> {
    match Store::open_existing_at(&location.clone().in_folder(root), data_dir).await? {
        Some(store) => Ok(Some(store.snapshot().await?)),
        None => Ok(None),
    }
}

/// What a place is called in a message.
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

/// A file name for a backup beside the state that is not taken.
pub fn backup_path(data_dir: &Path) -> PathBuf {
    data_dir.join("backups").join(format!("{}.json", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ")))
}

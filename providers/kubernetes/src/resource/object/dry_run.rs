//! The result of an apply of one object, by a dry run of the API server.

use kube::api::PatchParams;
use kube::core::Status;
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};
use crate::error::immutable_fields;

use super::document::Document;
use super::fields::FieldSet;
use super::key::ObjectKey;
use super::lifecycle::{live, parameters, patch, redacted};
use super::ownership::{self, shared_fields};
use super::provided::Provided;
use super::pruning;
use super::reading::{namespace, resolved};

/// The result of a dry run of one object.
pub(super) enum DryRun {
    /// The object as the apply would leave it.
    Object(Box<Json>),
    /// No dry run is possible, for this reason.
    NotPossible(String),
    /// These fields cannot be changed in place.
    Immutable(Vec<String>),
}

/// Does a dry run of the apply of an object. `exists` tells whether the object exists.
///
/// # Errors
/// If the API server refuses the object, or if neither the cluster nor the manifest has its kind or its namespace.
pub(super) async fn dry_run(
    cluster: &Cluster,
    document: &Document,
    served: Option<&Served>,
    provided: &Provided<'_>,
    removable: &FieldSet,
    exists: bool,
    force: bool,
) -> Result<DryRun, ProviderError> {
    let key = &document.key;
    let Some(served) = served else {
        if !provided.has_kind(key) && !may_be_installed(cluster, provided, key).await? {
            return Err(unknown_kind(cluster, provided, key).await?);
        }
        check_namespace(cluster, provided, key.namespace.as_deref(), key).await?;
        return Ok(DryRun::NotPossible(format!("the cluster does not serve {} {} yet", key.api_version, key.kind)));
    };
    let namespace = namespace(key, Some(served));
    let Some(body) = document.body(namespace.as_deref()) else {
        check_namespace(cluster, provided, namespace.as_deref(), key).await?;
        return Ok(DryRun::NotPossible("a part of it is known only after apply".to_owned()));
    };
    // The API server answers a dry run in a missing namespace only after a pause.
    if let Some(name) = namespace.as_deref().filter(|_| !exists)
        && provided.has_namespace(name)
        && cluster.lacks_namespace(name).await
    {
        return Ok(DryRun::NotPossible(missing_namespace(name)));
    }
    match patch(cluster, key, served, &body, &dry_run_parameters(force)).await? {
        Ok(object) => {
            ownership::check(&resolved(key, served), &shared_fields(removable, &body, &object), force)?;
            pruning::check(key, &body, &object)?;
            Ok(DryRun::Object(Box::new(object)))
        }
        Err(kube::Error::Api(status)) if is_missing_namespace(&status) => {
            let name = namespace.unwrap_or_default();
            if !provided.has_namespace(&name) {
                return Err(unknown_namespace(cluster, &name, key).await);
            }
            Ok(DryRun::NotPossible(missing_namespace(&name)))
        }
        Err(kube::Error::Api(status)) if status.message.contains("does not support dry run") => {
            Ok(DryRun::NotPossible("an admission webhook does not support dry runs".to_owned()))
        }
        Err(kube::Error::Api(status)) if immutable_fields(&status).is_some() => {
            Ok(DryRun::Immutable(immutable_fields(&status).unwrap_or_default()))
        }
        Err(kube::Error::Api(status))
            if status.code == 422 && takes_ownership_first(cluster, document, served, removable, force).await? =>
        {
            Ok(DryRun::NotPossible(
                "moorfast first takes over and removes fields that another manager owns too".to_owned(),
            ))
        }
        Err(error) => Err(redacted(cluster.explain(error, &format!("plan {key}")), document)),
    }
}

/// Whether the dry run fails only because other managers own fields that are to be removed, for example a second port of the same name.
async fn takes_ownership_first(
    cluster: &Cluster,
    document: &Document,
    served: &Served,
    removable: &FieldSet,
    force: bool,
) -> Result<bool, ProviderError> {
    let key = resolved(&document.key, served);
    let Some(body) = document.body(key.namespace.as_deref()) else { return Ok(false) };
    let Some(live) = live(cluster, &key, served).await? else { return Ok(false) };
    let shared = shared_fields(removable, &body, &live);
    ownership::check(&key, &shared, force)?;
    Ok(!shared.is_empty())
}

fn missing_namespace(name: &str) -> String {
    format!("the namespace {name} does not exist yet")
}

fn dry_run_parameters(force: bool) -> PatchParams {
    parameters(force).dry_run()
}

fn is_missing_namespace(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "namespaces")
}

/// Whether a dependency of the object may install its kind. This excludes kinds of a group that is served already.
async fn may_be_installed(cluster: &Cluster, provided: &Provided<'_>, key: &ObjectKey) -> Result<bool, ProviderError> {
    let is_served =
        |(api_version, _): &(String, String)| api_version.split_once('/').map_or("", |(group, _)| group) == key.group();
    Ok(provided.may_install_kinds() && !cluster.kinds().await?.iter().any(is_served))
}

/// Returns the error for a kind that neither the cluster nor the manifest has.
async fn unknown_kind(
    cluster: &Cluster,
    provided: &Provided<'_>,
    key: &ObjectKey,
) -> Result<ProviderError, ProviderError> {
    let ObjectKey { api_version, kind, .. } = key;
    let error =
        |why: &str| ProviderError::new(Class::Invalid, format!("cannot plan {key}: {why}")).attribute("manifest");
    let versions = provided.versions_of_kind(key);
    if !versions.is_empty() {
        let why = format!("the CustomResourceDefinition in the manifest does not serve {api_version}");
        return Ok(error(&why).help(format!("it serves {}", versions.join(", "))));
    }
    let error =
        error(&format!("the cluster does not serve {kind} of {api_version}, and nothing in the manifest defines it"));
    let mut kinds = cluster.kinds().await?;
    kinds.extend(provided.kinds());
    Ok(error.help(match nearest_kind(&kinds, key) {
        Some((api_version, kind)) => format!("did you mean {kind} of {api_version}?"),
        None => "correct apiVersion and kind (`kubectl api-resources` lists the served kinds), or add the CustomResourceDefinition to the manifest; if \
                 another resource installs it, add that resource to `depends_on`"
            .to_owned(),
    }))
}

/// Returns the kind that is most similar to that of the key.
pub(super) fn nearest_kind<'k>(kinds: &'k [(String, String)], key: &ObjectKey) -> Option<&'k (String, String)> {
    let group = |api_version: &str| api_version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    let same = |kind: &str| kind.eq_ignore_ascii_case(&key.kind);
    // The same version is preferred, then the same group.
    let ranked = |is_meant: &dyn Fn(&str) -> bool| {
        let rank = |(api_version, _): &&(String, String)| match api_version {
            version if *version == key.api_version => 0,
            version if group(version) == key.group() => 1,
            _ => 2,
        };
        kinds.iter().filter(|(_, kind)| is_meant(kind)).min_by_key(rank)
    };
    ranked(&same).or_else(|| {
        let own = kinds.iter().filter(|(version, _)| group(version) == key.group()).map(|(_, kind)| kind.as_str());
        let near = moorfast_engine::model::nearest(&key.kind, own);
        let near =
            near.or_else(|| moorfast_engine::model::nearest(&key.kind, kinds.iter().map(|(_, kind)| kind.as_str())));
        ranked(&|kind: &str| Some(kind) == near)
    })
}

/// Checks that the namespace of an object without a dry run exists, or that the manifest creates it.
async fn check_namespace(
    cluster: &Cluster,
    provided: &Provided<'_>,
    namespace: Option<&str>,
    key: &ObjectKey,
) -> Result<(), ProviderError> {
    let Some(name) = namespace.filter(|name| !provided.has_namespace(name)) else { return Ok(()) };
    match cluster.lacks_namespace(name).await {
        true => Err(unknown_namespace(cluster, name, key).await),
        // Without the right to read namespaces, the apply reports a missing one.
        false => Ok(()),
    }
}

/// Returns the error for a namespace that neither the cluster nor the manifest has.
async fn unknown_namespace(cluster: &Cluster, name: &str, key: &ObjectKey) -> ProviderError {
    let why = format!("cannot plan {key}: the namespace {name} does not exist, and nothing in the manifest creates it");
    let names = cluster.namespaces().await;
    let help = match moorfast_engine::model::nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "correct metadata.namespace, or add the Namespace to the manifest; if another resource creates it, add that resource to `depends_on`"
            .to_owned(),
    };
    ProviderError::new(Class::Invalid, why).help(help).attribute("manifest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_kind_is_a_served_one() {
        let kinds = [
            ("v1", "ConfigMap"),
            ("v1", "Pod"),
            ("apps/v1", "Deployment"),
            ("batch/v1", "Job"),
            ("batch/v1", "CronJob"),
        ]
        .map(|(version, kind)| (version.to_owned(), kind.to_owned()));
        let cases = [
            ("v1", "Configmap", Some(("v1", "ConfigMap"))),
            ("v1", "Deployment", Some(("apps/v1", "Deployment"))),
            ("extensions/v1beta1", "Deployment", Some(("apps/v1", "Deployment"))),
            ("batch/v1beta1", "CronJob", Some(("batch/v1", "CronJob"))),
            ("apps/v1", "Deploymnet", Some(("apps/v1", "Deployment"))),
            ("example.org/v1", "Pot", Some(("v1", "Pod"))),
            ("example.org/v1", "Gateway", None),
        ];
        for (version, kind, expected) in cases {
            let key = ObjectKey {
                api_version: version.to_owned(),
                kind: kind.to_owned(),
                namespace: None,
                name: "x".to_owned(),
            };
            let found = nearest_kind(&kinds, &key).map(|(version, kind)| (version.as_str(), kind.as_str()));
            assert_eq!(found, expected, "{version} {kind}");
        }
    }
}

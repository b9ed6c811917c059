//! What an apply would make of one object, by the API server's dry run.

use kube::api::PatchParams;
use kube::core::Status;
use moorfast_engine::provider::{Action, Class, ProviderError};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};
use crate::error::immutable_fields;
use crate::fetch::{Wanted, fetch};

use super::document::{Document, ObjectKey};
use super::fields::FieldSet;
use super::lifecycle::{live, parameters, patch, redacted};
use super::ownership::{self, held};
use super::provided::Provided;
use super::reading::{namespace, resolved};

/// What a dry run of one object says.
pub(super) enum Foreseen {
    /// The object as it would be, with what we manage of it.
    Object(Box<Json>),
    /// It can't be foreseen, because of this.
    NotYet(String),
    /// These fields can't be changed in place.
    Immutable(Vec<String>),
}

/// Asks the API server what an apply would make of the object.
///
/// # Errors
/// If the API server refuses it, and if neither the cluster nor the manifest has its kind or its namespace.
pub(super) async fn foresee(
    cluster: &Cluster,
    document: &Document,
    served: Option<&Served>,
    provided: &Provided<'_>,
    removable: &FieldSet,
    force: bool,
) -> Result<Foreseen, ProviderError> {
    let key = &document.key;
    let Some(served) = served else {
        if !provided.has_kind(key) && !may_come(cluster, provided, key).await? {
            return Err(unknown_kind(cluster, provided, key).await?);
        }
        check_namespace(cluster, provided, key.namespace.as_deref(), key).await?;
        return Ok(Foreseen::NotYet(format!("the cluster does not serve {} {} yet", key.api_version, key.kind)));
    };
    let namespace = namespace(key, Some(served));
    let Some(body) = document.body(namespace.as_deref()) else {
        check_namespace(cluster, provided, namespace.as_deref(), key).await?;
        return Ok(Foreseen::NotYet("some of it is known after apply".to_owned()));
    };
    match patch(cluster, key, served, &body, &dry_run(force)).await? {
        Ok(object) => {
            ownership::check(&resolved(key, served), &held(removable, &body, &object), force)?;
            Ok(Foreseen::Object(Box::new(object)))
        }
        Err(kube::Error::Api(status)) if is_missing_namespace(&status) => {
            let name = namespace.unwrap_or_default();
            if !provided.has_namespace(&name) {
                return Err(unknown_namespace(cluster, &name, key).await);
            }
            Ok(Foreseen::NotYet(format!("the namespace {name} does not exist yet")))
        }
        Err(kube::Error::Api(status)) if status.message.contains("does not support dry run") => {
            Ok(Foreseen::NotYet("an admission webhook does not support dry runs".to_owned()))
        }
        Err(kube::Error::Api(status)) if immutable_fields(&status).is_some() => {
            Ok(Foreseen::Immutable(immutable_fields(&status).unwrap_or_default()))
        }
        Err(kube::Error::Api(status))
            if status.code == 422 && takes_over_first(cluster, document, served, removable, force).await? =>
        {
            Ok(Foreseen::NotYet("fields that somebody else manages too are taken over and removed first".to_owned()))
        }
        Err(error) => Err(redacted(cluster.explain(error, &format!("plan {key}")), document)),
    }
}

/// Whether the object is refused as long as others manage fields that leave it: two ports of one name.
async fn takes_over_first(
    cluster: &Cluster,
    document: &Document,
    served: &Served,
    removable: &FieldSet,
    force: bool,
) -> Result<bool, ProviderError> {
    let key = resolved(&document.key, served);
    let Some(body) = document.body(key.namespace.as_deref()) else { return Ok(false) };
    let Some(live) = live(cluster, &key, served).await? else { return Ok(false) };
    let held = held(removable, &body, &live);
    ownership::check(&key, &held, force)?;
    Ok(!held.is_empty())
}

fn dry_run(force: bool) -> PatchParams {
    parameters(force).dry_run()
}

fn is_missing_namespace(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "namespaces")
}

/// Checks whether something that the object comes after may bring its kind. A group that is served already gets no kinds in that way.
async fn may_come(cluster: &Cluster, provided: &Provided<'_>, key: &ObjectKey) -> Result<bool, ProviderError> {
    let is_served =
        |(api_version, _): &(String, String)| api_version.split_once('/').map_or("", |(group, _)| group) == key.group();
    Ok(provided.may_bring_kinds() && !cluster.kinds().await?.iter().any(is_served))
}

/// The error for a kind that neither the cluster nor the manifest has.
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
        let why = format!("its CustomResourceDefinition in the manifest does not serve {api_version}");
        return Ok(error(&why).help(format!("it serves {}", versions.join(", "))));
    }
    let error =
        error(&format!("the cluster does not serve {kind} of {api_version}, and nothing in the manifest defines it"));
    Ok(error.help(match nearest_kind(&cluster.kinds().await?, key) {
        Some((api_version, kind)) => format!("did you mean {kind} of {api_version}?"),
        None => "correct apiVersion and kind (`kubectl api-resources` lists what is served), or add the CustomResourceDefinition to the manifest; if \
                 another resource installs it, name that resource in depends_on"
            .to_owned(),
    }))
}

/// The served kind that the key most probably means.
pub(super) fn nearest_kind<'k>(kinds: &'k [(String, String)], key: &ObjectKey) -> Option<&'k (String, String)> {
    let group = |api_version: &str| api_version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    let same = |kind: &str| kind.eq_ignore_ascii_case(&key.kind);
    // In the same version first, then in the same group, then anywhere.
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

/// Checks that the namespace of an object that cannot be tried exists or is created before it.
async fn check_namespace(
    cluster: &Cluster,
    provided: &Provided<'_>,
    namespace: Option<&str>,
    key: &ObjectKey,
) -> Result<(), ProviderError> {
    let Some(name) = namespace.filter(|name| !provided.has_namespace(name)) else { return Ok(()) };
    let Some(served) = cluster.served("v1", "Namespace").await? else { return Ok(()) };
    let wanted = Wanted { namespace: String::new(), name: name.to_owned() };
    match fetch(cluster, &served, std::slice::from_ref(&wanted)).await.get(&wanted) {
        Some(Ok(None)) => Err(unknown_namespace(cluster, name, key).await),
        // Who may not read namespaces learns it from the apply.
        _ => Ok(()),
    }
}

/// The error for a namespace that neither the cluster nor the manifest has.
async fn unknown_namespace(cluster: &Cluster, name: &str, key: &ObjectKey) -> ProviderError {
    let why = format!("cannot plan {key}: the namespace {name} does not exist, and nothing in the manifest creates it");
    let names = cluster.namespaces().await;
    let help = match moorfast_engine::model::nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "correct metadata.namespace, or add the Namespace to the manifest; if another resource creates it, name that resource in depends_on"
            .to_owned(),
    };
    ProviderError::new(Class::Invalid, why).help(help).attribute("manifest")
}

/// Whether the plan changes something for the action.
pub(super) fn acts(action: Option<Action>) -> bool {
    action.is_some_and(Action::accesses_target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_kind_is_one_that_is_served() {
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

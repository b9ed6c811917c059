//! The data source `kubernetes_rendered`: the objects of a Helm chart or a kustomization.

mod program;
mod renderer;
mod result;
mod secrets;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Context, DataRequest, Declaration, Invalid, LocalAccess, ProviderError, Redaction, TargetKind,
};

use crate::cluster::Cluster;
use crate::data::Data;

use renderer::{Renderer, TIME_LIMIT};
use result::Rendered;
use secrets::Secrets;

/// The attributes that only a chart has.
const OF_CHART: [&str; 6] = ["release", "values", "value_files", "include_crds", "kube_version", "api_versions"];

/// The data source `kubernetes_rendered`.
pub(crate) struct RenderedData;

#[async_trait]
impl Data for RenderedData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The objects of a Helm chart or a kustomization on this machine, as `helm template` or `kustomize build` renders them, for `for_each` of \
             `kubernetes_object`. The programs are found in PATH: `helm` 3 or later; `kustomize`, or `kubectl` if there is no `kustomize`. They get an empty \
             home folder and no network, so the result depends on the chart or folder alone: dependencies of a chart must be in its folder `charts`, and \
             a kustomization cannot refer to URLs. A rendering ends after 60 seconds, or after `timeouts.read`. `plan --untrusted` and \
             `--no-local-commands` refuse this data source, because it runs a program.\n\n\
             The data of Secrets is sensitive. If a value in `values` is sensitive, the chart is rendered a second time with another value in its place, \
             and each field that differs between the two results is sensitive. If the second rendering fails, or a whole list or table is sensitive, \
             all fields except kind, namespace and name are sensitive.",
            [
                Attribute::optional(
                    "chart",
                    Kind::String,
                    "Folder or package (`.tgz`) of a Helm chart, relative to the manifest.",
                ),
                Attribute::optional(
                    "release",
                    Kind::String,
                    "Name of the release, which charts use in the names of their objects. Required with `chart`.",
                ),
                Attribute::optional(
                    "kustomization",
                    Kind::String,
                    "Folder with a `kustomization.yaml`, relative to the manifest; instead of `chart`.",
                ),
                Attribute::optional(
                    "namespace",
                    Kind::String,
                    "Namespace of the release, and of namespaced objects that name none. Default: `default`.",
                ),
                Attribute::optional(
                    "values",
                    Kind::Any,
                    "Values of the chart as a table. They take precedence over `value_files`, and are never visible in the list of processes.",
                ),
                Attribute::optional(
                    "value_files",
                    Kind::list(Kind::String),
                    "Files with values in YAML, relative to the manifest. Later files take precedence.",
                ),
                Attribute::optional(
                    "include_crds",
                    Kind::Bool,
                    "Whether the CustomResourceDefinitions in the folder `crds` of the chart are part of the result.",
                )
                .or(true),
                Attribute::optional(
                    "kube_version",
                    Kind::String,
                    "Kubernetes version that the chart sees, such as `1.34`. Default: the version that Helm was built for.",
                ),
                Attribute::optional(
                    "api_versions",
                    Kind::list(Kind::String),
                    "API versions that the chart sees in addition to those of Kubernetes, such as `monitoring.coreos.com/v1`.",
                ),
                Attribute::computed(
                    "documents",
                    Kind::map(Kind::Any),
                    "Objects by `Kind/namespace/name` (`Kind/name` without a namespace), without hooks.",
                ),
                Attribute::computed(
                    "hooks",
                    Kind::map(Kind::Any),
                    "Objects with the annotation `helm.sh/hook`, such as tests and jobs that Helm runs before an upgrade. They are separate, because an apply \
                     would run them all at once.",
                ),
            ],
        );
        Declaration { name: "kubernetes_rendered", target_kind: TargetKind::Provider, schema }
    }

    fn local_access(&self) -> Option<LocalAccess> {
        Some(LocalAccess::Command)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let is_set = |name: &&str| attributes.is_set(name);
        let mut found = Vec::new();
        match (is_set(&"chart"), is_set(&"kustomization")) {
            (true, true) => {
                let both = Invalid::new("kustomization", "both `chart` and `kustomization` are set");
                found.push(both.help("keep one of them"));
            }
            (false, false) => {
                let neither = Invalid::block("neither `chart` nor `kustomization` is set");
                found.push(neither.help("name the folder of a Helm chart, or of a kustomization"));
            }
            (true, false) if !is_set(&"release") => {
                let missing = Invalid::new("chart", "`release` is required with `chart`");
                found.push(missing.help("set the name of the release: the objects of most charts begin with it"));
            }
            (true, false) => {}
            (false, true) => {
                // `include_crds` has a default, so it does not show that somebody set it.
                let wrong = OF_CHART.into_iter().filter(|name| *name != "include_crds").filter(is_set);
                found.extend(wrong.map(|name| {
                    Invalid::new(name, format!("`{name}` is only for a `chart`"))
                        .help("remove it, or put it into the kustomization")
                }));
            }
        }
        if let Some(values) = attributes.get("values").map(Value::reveal)
            && !matches!(values, Value::Null | Value::Unknown | Value::Retained | Value::Map(_))
        {
            let message = format!("`values` must be a table, not a {}", values.type_name());
            found.push(Invalid::new("values", message).help("write it as [data.kubernetes_rendered.NAME.values]"));
        }
        found
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let context = &cluster.context;
        tokio::select! {
            rendered = render(context, request) => rendered,
            () = context.cancel.cancelled() => {
                Err(ProviderError::new(Class::Cancelled, format!("the rendering of {} was cancelled", request.address)))
            }
        }
    }
}

async fn render(context: &Context, request: &DataRequest) -> Result<Attributes, ProviderError> {
    let arguments = &request.arguments;
    let limit = request.timeout.unwrap_or(TIME_LIMIT);
    let renderer = Renderer::of(arguments, &context.root, limit)?;
    let values = arguments.get("values").unwrap_or(&Value::Null);
    let rendered = match Secrets::of(values) {
        Secrets::None => renderer.render(values).await.map_err(|failure| failure.error())?,
        Secrets::Whole => renderer.render(values).await.map_err(|failure| failure.without_message())?.hidden(),
        Secrets::Replaced(others) => {
            let (real, other) = futures::join!(renderer.render(values), renderer.render(&others));
            match (real, other) {
                (Ok(real), Ok(other)) => real.compared(&other)?,
                (Ok(real), Err(_)) => real.hidden(),
                // The second rendering has seen no secret, so its message contains none.
                (Err(_), Err(failure)) => return Err(failure.error()),
                (Err(failure), Ok(_)) => return Err(failure.without_message()),
            }
        }
    };
    let Rendered { documents, hooks } = rendered;
    let redaction = Redaction::of([values]);
    if documents.keys().chain(hooks.keys()).any(|key| redaction.text(key) != *key) {
        return Err(ProviderError::new(Class::Failed, "the name of a rendered object contains a sensitive value")
            .attribute("values")
            .help("names are part of addresses, which are shown: use nonsensitive() if the value is not secret"));
    }
    let mut attributes = arguments.clone();
    attributes.insert("documents".to_owned(), Value::Map(documents));
    attributes.insert("hooks".to_owned(), Value::Map(hooks));
    Ok(attributes)
}

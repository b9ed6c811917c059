//! The function `kubernetes_version_skew`: which components of a cluster must not run side by side.
//!
//! The rules are those of <https://kubernetes.io/releases/version-skew-policy/>.

use std::fmt;

use super::{Arguments, Body, CallError, Family, Function, plain_error, quoting_error};
use crate::model::{Value, nearest};

pub(super) fn functions() -> Vec<Function> {
    vec![Function {
        name: "kubernetes_version_skew",
        family: Family::Collection,
        parameters: &["versions"],
        doc: "The violations of the [version skew policy](https://kubernetes.io/releases/version-skew-policy/) of Kubernetes, as a list of sentences; empty if there \
              are none. `versions` is a map from components (`kube_apiserver`, `kubelet`, `kube_proxy`, `kube_controller_manager`, `kube_scheduler`, \
              `cloud_controller_manager`) to their versions: a version, a list, or a map from nodes to versions. Name all versions that may run at the same time: \
              those that run now, and those that the plan installs.",
        body: Body::Plain(version_skew),
    }]
}

/// A component other than the API server, and how many minor versions it may be older.
struct Component {
    key: &'static str,
    name: &'static str,
    older: u64,
}

const API_SERVER: &str = "kube_apiserver";
const COMPONENTS: [Component; 5] = [
    Component { key: "kubelet", name: "kubelet", older: 3 },
    Component { key: "kube_proxy", name: "kube-proxy", older: 3 },
    Component { key: "kube_controller_manager", name: "kube-controller-manager", older: 1 },
    Component { key: "kube_scheduler", name: "kube-scheduler", older: 1 },
    Component { key: "cloud_controller_manager", name: "cloud-controller-manager", older: 1 },
];

/// A version as it was given, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    text: String,
    minor: (u64, u64),
    node: Option<String>,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_start_matches('v'))?;
        self.node.iter().try_for_each(|node| write!(f, " ({node})"))
    }
}

fn version_skew(a: &Arguments) -> Result<Value, CallError> {
    let versions = a.map(0)?;
    let known = || COMPONENTS.iter().map(|component| component.key).chain([API_SERVER]);
    if let Some(unknown) = versions.keys().find(|key| !known().any(|known| known == *key)) {
        let like = nearest(unknown, known()).map(|like| format!("; did you mean `{like}`?")).unwrap_or_default();
        return Err(quoting_error(format!("`{unknown}` is not a component of Kubernetes{like}")));
    }
    let running = |key: &str| versions.get(key).map_or(Ok(Vec::new()), running);
    let servers = running(API_SERVER)?;
    let mut violations = Vec::new();
    let (Some(oldest), Some(newest)) =
        (servers.iter().min_by_key(|server| server.minor), servers.iter().max_by_key(|server| server.minor))
    else {
        return Ok(Value::List(Vec::new()));
    };
    if is_apart(oldest, newest, 1) {
        violations.push(format!(
            "kube-apiserver {oldest} and {newest} must not run at the same time: they may be one minor version apart"
        ));
    }
    for Component { key, name, older } in COMPONENTS {
        for one in running(key)? {
            if one.minor > oldest.minor {
                violations.push(format!("{name} {one} must not be newer than kube-apiserver {oldest}"));
            } else if is_apart(&one, newest, older) {
                let limit = if older == 1 { "one minor version".to_owned() } else { format!("{older} minor versions") };
                violations.push(format!("{name} {one} may be at most {limit} older than kube-apiserver {newest}"));
            }
        }
    }
    Ok(Value::List(violations.into_iter().map(Value::String).collect()))
}

/// Whether `newer` is more than `limit` minor versions newer. Another major version is never supported.
fn is_apart(older: &Running, newer: &Running, limit: u64) -> bool {
    older.minor.0 != newer.minor.0 || newer.minor.1.saturating_sub(older.minor.1) > limit
}

/// Returns the versions in a value. Null and an empty text stand for a component that does not run.
fn running(value: &Value) -> Result<Vec<Running>, CallError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => items.iter().map(|item| version(item, None)).filter_map(Result::transpose).collect(),
        Value::Map(members) => {
            members.iter().map(|(node, item)| version(item, Some(node))).filter_map(Result::transpose).collect()
        }
        one => Ok(version(one, None)?.into_iter().collect()),
    }
}

fn version(value: &Value, node: Option<&String>) -> Result<Option<Running>, CallError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text,
        _ => return Err(plain_error("a version of Kubernetes must be a string, such as \"1.34.4\"")),
    };
    let mut parts = text.trim_start_matches('v').splitn(3, '.');
    let mut number = || parts.next()?.trim_end_matches('+').parse::<u64>().ok();
    match (number(), number()) {
        (Some(major), Some(minor)) => {
            Ok(Some(Running { text: text.clone(), minor: (major, minor), node: node.cloned() }))
        }
        _ => Err(quoting_error(format!("`{text}` is not a version of Kubernetes, such as 1.34.4"))),
    }
}

//! `ssh_sysctl`: a kernel parameter, live and at boot.

use moorfast_engine::{
    Attribute, Attributes, Invalid, Kind, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError,
    ResourceType, Schema, Scope, Value,
};
use serde_json::json;

use super::{Resource, Step, propose, text};
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_sysctl`.
pub(crate) struct Sysctl;

impl Resource for Sysctl {
    fn resource_type(&self) -> ResourceType {
        let schema = Schema::new(
            "A kernel parameter, set now and at boot by a file in `/etc/sysctl.d`. A destroy removes the file and sets the value that was found.",
            [
                Attribute::required("name", Kind::String, "Its name: `net.ipv4.ip_forward`; with slashes where a part has a dot: `net/ipv4/conf/eth0.1/forwarding`.").replaces(),
                Attribute::required("value", Kind::String, "Its value. Several numbers are separated by one space each."),
                Attribute::computed("boot_value", Kind::String, "The value that moorfast's file sets at boot; empty where there is no such file."),
            ],
        );
        ResourceType { name: "ssh_sysctl", scope: Scope::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let Some(name) = text(attributes, "name") else { return Vec::new() };
        let fits = !name.contains("..") && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
        if fits && !name.is_empty() && !name.starts_with('/') {
            return Vec::new();
        }
        let message = format!("`{name}` is no name of a kernel parameter");
        vec![Invalid { attribute: Some("name"), message, help: Some("it looks like net.ipv4.ip_forward".to_owned()) }]
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("sysctl:{}", slashed(text(attributes, "name")?)))
    }

    fn look(&self, subject: &Subject) -> String {
        format!(
            "{}\nif [ -e \"$L\" ]; then blob live < \"$L\"; fi; if [ -f \"$F\" ]; then blob boot < \"$F\"; fi",
            places(subject)
        )
    }

    fn observe(&self, subject: &Subject, seen: &Section) -> Result<Option<Observed>, ProviderError> {
        let Some(live) = seen.text("live") else { return Ok(None) };
        let boot = seen.text("boot").unwrap_or_default();
        let boot =
            boot.lines().find_map(|line| line.split_once('=')).map(|(_, value)| plain(value)).unwrap_or_default();
        let mut attributes = Attributes::from([
            ("value".to_owned(), Value::from(plain(&live))),
            ("boot_value".to_owned(), Value::from(boot)),
        ]);
        if let Some(name) = subject.attributes.get("name") {
            attributes.insert("name".to_owned(), name.clone());
        }
        Ok(Some(Observed { attributes, private: serde_json::Value::Null }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if let Some(value) = text(&planned, "value").map(plain) {
            planned.insert("value".to_owned(), Value::from(value.as_str()));
            planned.insert("boot_value".to_owned(), Value::from(value));
        } else {
            planned.insert("boot_value".to_owned(), Value::Unknown);
        }
        Ok(propose(self, request, planned))
    }

    fn act(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<Step, ProviderError> {
        let places = places(subject);
        if matches!(operation.action, OperationAction::Delete) {
            let back = subject.private["before"]
                .as_str()
                .map(|before| format!("[ ! -e \"$L\" ] || printf '%s\\n' {} > \"$L\"", quote(before)));
            return Ok(Step::quick(format!("{places}\nrm -f -- \"$F\"\n{}", back.unwrap_or_default())));
        }
        let value = plain(text(&subject.attributes, "value").unwrap_or_default());
        let name = slashed(text(&subject.attributes, "name").unwrap_or_default());
        Ok(Step::quick(format!(
            "{places}
[ -e \"$L\" ] || fail failed 'there is no such kernel parameter (it may need a module: ssh_kernel_module)'
blob before < \"$L\"
printf '%s\\n' {value} > \"$L\"
mkdir -p /etc/sysctl.d; temporary /etc/sysctl.d
printf '%s = %s\\n' {name} {value} > \"$T\"; chmod 0644 \"$T\"; sync -- \"$T\"; mv -fT -- \"$T\" \"$F\"",
            value = quote(&value),
            name = quote(&name),
        )))
    }

    fn found(&self, _: &Attributes, observed: Option<&Attributes>) -> Option<serde_json::Value> {
        let value = observed?.get("value").filter(|value| !value.is_sensitive())?;
        Some(json!({ "before": value.as_str()? }))
    }

    fn private(&self, subject: &Subject, seen: &Section) -> serde_json::Value {
        match (subject.private.is_null(), seen.text("before")) {
            (true, Some(before)) => json!({ "before": plain(&before) }),
            _ => subject.private.clone(),
        }
    }
}

/// The name with slashes: dots separate, unless a slash comes first.
fn slashed(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { name.replace('.', "/") }
}

/// Shell variables: where the value lives and where it is kept for the next boot.
fn places(subject: &Subject) -> String {
    let name = slashed(subject.text("name").unwrap_or_default());
    let file = format!("/etc/sysctl.d/90-moorfast-{}.conf", name.replace('/', "."));
    format!("L={}; F={}", quote(&format!("/proc/sys/{name}")), quote(&file))
}

/// A value with single spaces: the kernel prints tabs.
fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

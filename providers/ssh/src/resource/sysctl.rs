//! `ssh_sysctl`: a kernel parameter, now and at boot.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Class, Consequence, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProviderError, TargetKind,
};
use serde_json::json;

use super::proposal::propose;
use super::sysctl_boot::{self, slashed};
use super::sysctl_value::{is_same, plain};
use super::{Resource, ShellTask};
use crate::object_answer::Answer;
use crate::question::{Question, Topic};
use crate::script::{Section, quote};
use crate::sources::Sources;
use crate::subject::Subject;

/// The resource type `ssh_sysctl`.
pub(crate) struct Sysctl;

/// The reason why a parameter that does not exist cannot be set.
pub(crate) const MISSING: &str = "the kernel parameter does not exist (it may need a module: ssh_kernel_module)";

const FUNCTIONS: &str = include_str!("sysctl/functions.sh");

impl Resource for Sysctl {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A kernel parameter, set now, and at boot by a file in `/etc/sysctl.d`. If another file would override the value at boot, the file gets a name that is read later. \
             A destroy removes the file and restores the previous value, unless the kernel refuses it.",
            [
                Attribute::required("name", Kind::String, "The name of the parameter: `net.ipv4.ip_forward`. Use slashes if a part contains a dot: `net/ipv4/conf/eth0.1/forwarding`. Patterns with `*` are not permitted.").replaces(),
                Attribute::required("value", Kind::String, "The value of the parameter. Separate several numbers by one space each. `0x10` and `16` are the same value, as are `1,2,3` and `1-3`."),
                Attribute::computed("boot_value", Kind::String, "The value that the files in `sysctl.d` set at boot. Empty if no file sets the parameter."),
            ],
        );
        Declaration { name: "ssh_sysctl", target_kind: TargetKind::Node, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if let Some(name) = attributes.text("name") {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c));
            let parts = slashed(name).split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
            let message = format!("`{name}` is not a valid name of a kernel parameter");
            if name.contains('*') {
                let help = Some("name one parameter; use for_each for several parameters".to_owned());
                invalid.push(Invalid { attribute: Some("name"), message, help });
            } else if !plain || !parts {
                let help = Some("write a name such as net.ipv4.ip_forward".to_owned());
                invalid.push(Invalid { attribute: Some("name"), message, help });
            }
        }
        if attributes.text("value").is_some_and(|value| value.trim().contains(['\n', '\0'])) {
            let message = "value must be a single line".to_owned();
            invalid.push(Invalid::new("value", message));
        }
        invalid
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        Some(format!("sysctl:{}", slashed(attributes.text("name")?)))
    }

    fn questions(&self, subject: &Subject, _: &Answer) -> Vec<Question> {
        subject.text("name").map(|name| Topic::Parameter.of(slashed(name))).into_iter().collect()
    }

    fn observe(&self, subject: &Subject, answer: &Answer) -> Result<Option<Observed>, ProviderError> {
        let name = slashed(subject.text("name").unwrap_or_default());
        let Some(parameter) = answer.node.parameter(&name) else { return Ok(None) };
        let desired = subject.text("value").map(plain);
        // The recorded spelling comes first, so that another spelling in the manifest is not drift.
        let recorded = |name: &str| subject.recorded.as_ref().and_then(|r| r.text(name)).map(plain);
        let spelled = |name: &str, value: &str| {
            let mut known = [recorded(name), desired.clone()].into_iter().flatten();
            known.find(|known| is_same(known, value)).unwrap_or_else(|| plain(value))
        };
        let boot = sysctl_boot::last(&parameter.boot_lines, &name);
        let (value, boot_value) = (
            spelled("value", &parameter.value),
            boot.as_ref().map(|b| spelled("boot_value", b.value)).unwrap_or_default(),
        );
        let file = boot.map(|b| b.file.to_owned());
        if let (true, Some(desired)) = (answer.own.is("written"), &desired) {
            let hidden = subject.sensitivity_model("value").is_some_and(Value::is_sensitive);
            let shown = |value: &str| if hidden { "another value".to_owned() } else { format!("`{value}`") };
            if value != *desired {
                return Err(ProviderError::new(
                    Class::Failed,
                    format!("the kernel changed the value to {}", shown(&value)),
                )
                .attribute("value")
                .help("write that value, or check which limit applies"));
            }
            if boot_value != *desired {
                let file = file.unwrap_or_default();
                let message = format!("{file} sets {} at boot, after the file of moorfast", shown(&boot_value));
                return Err(ProviderError::new(Class::Conflict, message).help(format!("remove the line from {file}")));
            }
        }
        let mut attributes = Attributes::from([
            ("value".to_owned(), Value::from(value)),
            ("boot_value".to_owned(), Value::from(boot_value)),
        ]);
        if let Some(name) = subject.attributes.get("name") {
            attributes.insert("name".to_owned(), name.clone());
        }
        let private = json!({
            "boot_file": file,
            "mode": parameter.mode,
            "writable": parameter.is("writable"),
            "root": parameter.by_root,
        });
        Ok(Some(Observed { attributes, private }))
    }

    fn plan(&self, request: &PlanRequest, _: &Sources) -> Result<Proposal, ProviderError> {
        let mut planned = request.desired.clone();
        if let Some(value) = planned.text("value").map(plain) {
            let shown = |name: &str| request.observed.as_ref()?.attributes.text(name).map(str::to_owned);
            let is_set = |name: &str| shown(name).is_some_and(|now| is_same(&now, &value));
            let settled = is_set("value") && is_set("boot_value");
            for name in ["value", "boot_value"] {
                let value = shown(name).filter(|_| settled).unwrap_or_else(|| value.clone());
                planned.insert(name.to_owned(), Value::from(value));
            }
        } else {
            planned.insert("boot_value".to_owned(), Value::Unknown);
        }
        let mut proposal = propose(self, request, planned);
        let obstacle = request.observed.as_ref().and_then(|observed| obstacle(&proposal, observed));
        proposal.consequences.extend(obstacle.map(|message| Consequence::Obstacle { message }));
        Ok(proposal)
    }

    fn apply_script(&self, operation: &Operation, subject: &Subject, _: &Sources) -> Result<ShellTask, ProviderError> {
        let start = format!("{}\n{FUNCTIONS}", places(subject));
        if matches!(operation.action, OperationAction::Delete) {
            let back = subject.private["before"].as_str().map(restore).unwrap_or_default();
            return Ok(ShellTask::quick(format!("{start}rm -f -- \"$F\" \"$Z\"\n{back}")));
        }
        let value = plain(subject.attributes.text("value").unwrap_or_default());
        let name = slashed(subject.attributes.text("name").unwrap_or_default());
        let before = operation.observed.as_ref();
        let is_set = before.and_then(|o| o.attributes.text("value")).is_some_and(|now| is_same(now, &value));
        let shown = match subject.attributes.get("value").is_some_and(Value::is_sensitive) {
            true => "the value".to_owned(),
            false => format!("the value `{value}`"),
        };
        let set = match is_set {
            true => String::new(),
            false => format!("set_value {} || fail_refused {}\n", quote(&value), quote(&shown)),
        };
        let overridden =
            before.and_then(|o| o.private["boot_file"].as_str()).is_some_and(|file| comes_after(file, &name));
        let (file, other) = if overridden { ("Z", "F") } else { ("F", "Z") };
        Ok(ShellTask::quick(format!(
            "{start}[ -e \"$L\" ] || fail failed '{MISSING}'
blob before < \"$L\"
{set}mkdir -p /etc/sysctl.d; create_temporary /etc/sysctl.d
printf '%s = %s\\n' {name} {value} > \"$T\"; chmod 0644 \"$T\"; sync -- \"$T\"; mv -fT -- \"$T\" \"${file}\"; rm -f -- \"${other}\"
field written yes",
            value = quote(&value),
            name = quote(&name),
        )))
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        let value = observed?.attributes.get("value").filter(|value| !value.is_sensitive())?;
        Some(json!({ "before": value.as_str()? }))
    }

    fn private(&self, subject: &Subject, answer: &Section) -> serde_json::Value {
        let now = subject.before.as_ref().and_then(|before| before.get("value"));
        // An imported object has other private data, and its value may be a secret of the manifest.
        let imported = !subject.private.is_null() && !now.is_some_and(Value::is_sensitive);
        let is_first = subject.private.is_null() || (imported && subject.private["before"].is_null());
        match (is_first, answer.text("before")) {
            (true, Some(before)) => json!({ "before": plain(&before) }),
            _ => subject.private.clone(),
        }
    }
}

/// Returns the paths of the file that sets `name` at boot: the usual one, and one that is read after the files of others.
fn boot_files(name: &str) -> [String; 2] {
    ["90", "zz"].map(|first| format!("/etc/sysctl.d/{first}-moorfast-{}.conf", name.replace('/', ".")))
}

/// Whether `file` is read after the usual file of `name`.
fn comes_after(file: &str, name: &str) -> bool {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let [usual, _] = boot_files(name);
    base(file) > base(&usual)
}

/// Returns shell variables: the file in /proc, and the two files for the boot.
fn places(subject: &Subject) -> String {
    let name = slashed(subject.text("name").unwrap_or_default());
    let [file, late] = boot_files(&name);
    format!("L={}; F={}; Z={}", quote(&format!("/proc/sys/{name}")), quote(&file), quote(&late))
}

/// Returns why an apply would fail.
fn obstacle(proposal: &Proposal, observed: &Observed) -> Option<String> {
    let private = |name: &str| &observed.private[name];
    let (now, then) = (observed.attributes.text("value"), proposal.planned.text("value"));
    if then.is_some() && now != then && private("writable") == false {
        let fixed = private("mode").as_str().is_some_and(|mode| !mode.starts_with(['2', '3', '6', '7']));
        return Some(match (fixed, private("root") == true) {
            (true, _) => "the parameter is read-only in the kernel".to_owned(),
            (false, true) => "the parameter is read-only on this machine".to_owned(),
            (false, false) => "only root can change the parameter".to_owned(),
        });
    }
    let name = slashed(observed.attributes.text("name")?);
    let [_, late] = boot_files(&name);
    let file = private("boot_file").as_str()?;
    let boot = proposal.planned.text("boot_value").filter(|then| observed.attributes.text("boot_value") != Some(*then));
    let last = late.rsplit('/').next().unwrap_or_default();
    (boot.is_some() && file.rsplit('/').next().unwrap_or_default() > last)
        .then(|| format!("{file} sets another value at boot, after the file of moorfast"))
}

/// Returns shell that restores the previous value. If the kernel refuses it, the current value stays.
fn restore(before: &str) -> String {
    format!(
        "if [ -e \"$L\" ]; then
  set -f; set -- $(cat -- \"$L\"); set +f
  [ \"$*\" = {0} ] || set_value {0} || note \"the value stays $*: the kernel refuses the previous value \"{0}\" ($X)\"
fi",
        quote(before)
    )
}

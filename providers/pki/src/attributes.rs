//! Reading and building attributes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Value, parse_duration};
use moorfast_engine::provider::{Action, Dependency, Invalid, PlanRequest, Proposal, ProposedAction};
use serde_json::Value as Json;

use crate::certificate::Certificate;

/// Builds attributes. Null values are left out.
pub(crate) fn attributes(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Attributes {
    let set = pairs.into_iter().filter(|(_, value)| !value.is_null());
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns a list of texts, or null if there are none.
pub(crate) fn list(texts: impl IntoIterator<Item = String>) -> Value {
    let items: Vec<_> = texts.into_iter().map(Value::from).collect();
    if items.is_empty() { Value::Null } else { Value::List(items) }
}

/// Returns the computed attributes of every resource with a certificate.
pub(crate) fn certificate_attributes() -> [Attribute; 6] {
    [
        Attribute::computed("certificate", Kind::String, "The certificate in PEM."),
        Attribute::computed("not_before", Kind::String, "When the certificate begins to be valid, as in RFC 3339.")
            .derived_from("certificate"),
        Attribute::computed("not_after", Kind::String, "When the certificate expires, as in RFC 3339.").expiry(),
        Attribute::computed("serial", Kind::String, "The serial number in hexadecimal digits.")
            .derived_from("certificate"),
        Attribute::computed("fingerprint", Kind::String, "The SHA-256 of the certificate in hexadecimal digits.")
            .derived_from("certificate"),
        Attribute::computed(
            "renewal_due",
            Kind::Bool,
            "Whether the certificate expires within `renew_before`. Then the next apply renews it.",
        ),
    ]
}

/// Returns `validity` and `renew_before`, with their defaults.
pub(crate) fn lifetime(validity: &'static str, renew_before: &'static str) -> [Attribute; 2] {
    [
        Attribute::optional(
            "validity",
            Kind::Duration,
            "How long a new certificate is valid. It does not outlive the certificate of its authority. A change issues the certificate again.",
        )
        .or(validity),
        Attribute::optional(
            "renew_before",
            Kind::Duration,
            "How long before its expiry a certificate is renewed by the next apply. It must be shorter than `validity`.",
        )
        .or(renew_before)
        .instruction(),
    ]
}

/// Checks that a certificate is not due for renewal as soon as it is issued.
pub(crate) fn check_lifetime(attributes: &Attributes) -> Option<Invalid> {
    let (validity, renew_before) = (attributes.duration("validity")?, attributes.duration("renew_before")?);
    let too_early = "`renew_before` is not shorter than `validity`, so that every plan would renew the certificate";
    (renew_before >= validity)
        .then(|| Invalid::new("renew_before", too_early).help("make it shorter, such as a third of `validity`"))
}

/// Returns the values of [`certificate_attributes`]. A certificate that is `limited` expires with its authority, so that its renewal would not help.
pub(crate) fn of_certificate(
    certificate: &Certificate,
    renew_before: Option<Duration>,
    limited: bool,
    now: Timestamp,
) -> [(&'static str, Value); 6] {
    let is_due = !limited && is_within(certificate.not_after(), renew_before, now);
    [
        ("certificate", certificate.pem().into()),
        ("not_before", certificate.not_before().to_string().into()),
        ("not_after", certificate.not_after().to_string().into()),
        ("serial", certificate.serial().into()),
        ("fingerprint", certificate.fingerprint().into()),
        ("renewal_due", is_due.into()),
    ]
}

/// The observed `certificate_mode` if the file does not exist.
pub(crate) const NO_CERTIFICATE_FILE: &str = "the certificate file is missing";
/// The observed `key_mode` if the file does not exist.
pub(crate) const NO_KEY_FILE: &str = "the key file is missing";

/// The attributes that do not affect the certificate itself.
const NOT_IN_CERTIFICATE: [&str; 7] =
    ["name", "renew_before", "owner", "group", "key_mode", "certificate_mode", "parents"];

/// Whether an update issues the certificate again: one of its attributes differs, its key does not fit, or it is due for renewal and not `limited` by its
/// authority.
pub(crate) fn is_issued_again(desired: &Attributes, observed: &Attributes, limited: bool) -> bool {
    let now = |name: &str| observed.get(name).unwrap_or(&Value::Null);
    let is_same = |name: &str| desired.get(name).is_none_or(|then| then.is_retained() || means_same(now(name), then));
    let is_set = |name: &&String| !NOT_IN_CERTIFICATE.contains(&name.as_str());
    let is_missing = |name: &&String| !desired.contains_key(name) && CONTENTS.contains(&name.as_str());
    desired.keys().filter(is_set).any(|name| !is_same(name))
        || observed.iter().filter(|(_, value)| !value.is_null()).any(|(name, _)| is_missing(&name))
        || now("key_matches") == &Value::from(false)
        || now("certificate").is_null()
        || (!limited && is_due(desired, observed))
}

/// The attributes without a default that a certificate contains.
const CONTENTS: [&str; 8] =
    ["authority", "common_name", "organizations", "path_length", "dns_names", "ip_addresses", "uris", "chain"];

/// Whether the observed certificate expires within the desired `renew_before`.
fn is_due(desired: &Attributes, observed: &Attributes) -> bool {
    let not_after = observed.text("not_after").and_then(|at| at.parse::<Timestamp>().ok());
    not_after.is_some_and(|not_after| is_within(not_after, desired.duration("renew_before"), Timestamp::now()))
}

fn is_within(not_after: Timestamp, renew_before: Option<Duration>, now: Timestamp) -> bool {
    let renew_before = renew_before.and_then(|duration| SignedDuration::try_from(duration).ok()).unwrap_or_default();
    now.checked_add(renew_before).unwrap_or(Timestamp::MAX) >= not_after
}

/// Whether two values of an attribute mean the same: the order of names does not matter, and an address or a duration can be written in several ways.
pub(crate) fn means_same(now: &Value, then: &Value) -> bool {
    fn meaning(value: &Value) -> Option<BTreeSet<String>> {
        let text = |text: &str| match (text.parse::<IpAddr>(), parse_duration(text)) {
            (Ok(address), _) => address.to_string(),
            (_, Some(duration)) => format!("{duration:?}"),
            _ => text.to_owned(),
        };
        match value.reveal_deep() {
            Value::Null => Some(BTreeSet::new()),
            Value::List(items) => items.iter().map(|item| item.as_str().map(text)).collect(),
            Value::String(own) => Some(BTreeSet::from([text(&own)])),
            _ => None,
        }
    }
    now == then || meaning(now).is_some_and(|now| Some(now) == meaning(then))
}

/// Returns `value` as it is spelled in `settings`, if it means the same.
pub(crate) fn spelled_as(settings: &Attributes, found: &mut Attributes) {
    for (name, value) in found {
        if let Some(spelled) = settings.get(name).filter(|spelled| !spelled.is_unknown() && means_same(value, spelled))
        {
            *value = spelled.clone();
        }
    }
}

/// Returns the proposal for an object: nothing if all that the manifest sets is as observed and nothing is due, otherwise a change.
///
/// `kept` are the computed attributes that no change in place changes. `reason` is why a certificate is issued again although its attributes are as desired.
pub(crate) fn propose(request: &PlanRequest, kept: &[&str], reason: Option<String>) -> Proposal {
    let limited =
        request.observed.as_ref().is_some_and(|observed| is_limited(&observed.private)) && !renews_authority(request);
    let schema = request.resource_type.schema();
    let has = |name: &str| schema.attribute(name).is_some();
    let mut planned = request.desired.clone();
    planned.retain(|_, value| !value.is_null());
    let open: Vec<_> = schema.attributes.iter().filter(|a| a.computed && !planned.contains_key(a.name)).collect();
    let add = |planned: &mut Attributes, value: &dyn Fn(&str) -> Value| {
        let values = open.iter().map(|attribute| (attribute, value(attribute.name)));
        planned.extend(values.filter(|(_, value)| !value.is_null()).map(|(attribute, value)| {
            (attribute.name.to_owned(), if attribute.sensitive { value.sensitive() } else { value })
        }));
    };
    let new = |name: &str| match name {
        "renewal_due" => Value::from(false),
        "key_matches" => Value::from(true),
        _ => Value::Unknown,
    };
    let Some(observed) = request.observed.as_ref().map(|observed| &observed.attributes) else {
        add(&mut planned, &new);
        return Proposal::new(ProposedAction::Create, planned);
    };
    let now = |name: &str| observed.get(name).unwrap_or(&Value::Null);
    for (name, value) in &mut planned {
        if value.is_retained() || (!value.is_unknown() && means_same(now(name), value)) {
            *value = now(name).clone();
        }
    }
    let is_changed = |name: &&str| match planned.get(name) {
        Some(value) => value.reveal_deep() != now(name).reveal_deep(),
        // An attribute that the manifest does not set keeps its value if the provider computes it.
        None => !now(name).is_null() && schema.attribute(name).is_some_and(|attribute| !attribute.computed),
    };
    let set = schema.attributes.iter().filter(|attribute| attribute.optional).map(|attribute| attribute.name);
    let changed: Vec<&str> = set.filter(is_changed).collect();
    let replaces = |name: &&str| schema.attribute(name).is_some_and(|attribute| attribute.forces_replacement);
    let replaced: Vec<_> = changed.iter().copied().filter(replaces).map(str::to_owned).collect();
    let is_issued_again =
        has("certificate") && (reason.is_some() || is_issued_again(&request.desired, observed, limited));
    let proposal = |action, planned| Proposal::new(action, planned);
    if !replaced.is_empty() {
        add(&mut planned, &new);
        return proposal(ProposedAction::Replace(replaced), planned);
    }
    if is_issued_again {
        add(&mut planned, &|name| if kept.contains(&name) { now(name).clone() } else { new(name) });
        let notes = notes(&request.desired, observed, limited, reason);
        return Proposal { notes, ..proposal(ProposedAction::Update, planned) };
    }
    add(&mut planned, &|name| if name == "renewal_due" { Value::from(false) } else { now(name).clone() });
    proposal(if changed.is_empty() { ProposedAction::NoOp } else { ProposedAction::Update }, planned)
}

/// Marks in the private data of an observation whether the certificate expires with its authority.
pub(crate) fn with_limited(mut private: Json, limited: bool) -> Json {
    private["limited"] = limited.into();
    private
}

fn is_limited(private: &Json) -> bool {
    private["limited"].as_bool().unwrap_or_default()
}

/// Whether the plan changes the authority that issues the certificate.
fn renews_authority(request: &PlanRequest) -> bool {
    let is_authority = |dependency: &Dependency| dependency.address.resource.resource_type == "pki_authority";
    let mut authorities = request.dependencies.iter().filter(|dependency| is_authority(dependency));
    authorities.any(|dependency| dependency.action.is_some_and(Action::is_change))
}

/// Returns why a certificate is issued again, as far as its attributes do not show it.
fn notes(desired: &Attributes, observed: &Attributes, limited: bool, reason: Option<String>) -> Vec<String> {
    let (at, before) = (observed.text("not_after").unwrap_or("?"), desired.text("renew_before").unwrap_or("?"));
    let renewed = (!limited && is_due(desired, observed))
        .then(|| format!("renewed: the certificate expires at {at}, and `renew_before` is {before}"));
    let again = |reason: String| format!("issued again: {reason}");
    let file = damage(observed).map(|damage| again(damage.to_owned()));
    renewed.into_iter().chain(file).chain(reason.map(again)).collect()
}

/// Returns why the two files of a certificate on a node are not a certificate and its key. `None` if they are, or if the certificate is not on a node.
fn damage(observed: &Attributes) -> Option<&'static str> {
    Some(match observed.get("key_matches")? {
        matches if *matches == Value::from(true) => return None,
        _ if observed.text("certificate_mode") == Some(NO_CERTIFICATE_FILE) => NO_CERTIFICATE_FILE,
        _ if observed.text("key_mode") == Some(NO_KEY_FILE) => NO_KEY_FILE,
        _ if !observed.is_set("certificate") => "there is no certificate in the certificate file",
        _ => "the private key does not fit the certificate",
    })
}

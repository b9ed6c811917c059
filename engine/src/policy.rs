//! Policies: rules over the whole plan, which are evaluated when a plan is made and again before it is applied.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::configuration::expand::{Binding, Expanded};
use crate::configuration::scope::{InstanceScope, Values};
use crate::expression::{Expr, Files, Reference, Scope, Unresolved};
use crate::manifest::{Policy, PolicySeverity};
use crate::model::convert::to_text;
use crate::model::{Address, Diagnostic, NodeName, Severity, Value, ValueMap, error_codes};
use crate::plan::{Change, Plan, PlannedRollout, PolicyResult};
use crate::provider::ObjectChange;

impl Plan {
    /// Whether a violated policy denies the plan.
    pub fn is_denied(&self) -> bool {
        self.policies.iter().any(PolicyResult::denies)
    }
}

/// Evaluates the policies of the manifest for `plan`. `applying` is `true` if the plan is about to be applied.
///
/// # Errors
/// If an expression of a policy cannot be evaluated.
pub(crate) fn evaluate(expanded: &Expanded, plan: &Plan, applying: bool) -> Result<Vec<PolicyResult>, Vec<Diagnostic>> {
    if expanded.manifest.policies.is_empty() {
        return Ok(Vec::new());
    }
    let scope = PolicyScope::new(expanded, plan_value(expanded, plan, applying));
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (name, policy) in &expanded.manifest.policies {
        match violation(policy, &scope) {
            Ok(violation) => results.push(PolicyResult {
                name: format!("policy.{name}"),
                severity: policy.severity,
                violation,
                place: place(expanded, policy),
            }),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(results) } else { Err(errors) }
}

/// Returns the violated policies as diagnostics at their places in the manifest.
pub(crate) fn diagnostics(expanded: &Expanded, plan: &Plan) -> Vec<Diagnostic> {
    let of = |result: &PolicyResult| {
        let message = result.violation.as_ref()?;
        let policy = expanded.manifest.policies.get(result.name.strip_prefix("policy.")?)?;
        let (severity, verb) = match result.severity {
            PolicySeverity::Deny => (Severity::Error, "denies"),
            PolicySeverity::Warn => (Severity::Warning, "warns about"),
        };
        let code = (severity == Severity::Error).then_some(error_codes::POLICY_DENIED);
        let error = Diagnostic::error(format!("{} {verb} this plan: {message}", result.name));
        Some(Diagnostic { severity, code, ..error.at(policy.condition.span, "is false") })
    };
    plan.policies.iter().filter_map(of).collect()
}

/// Returns the errors of policies that do not depend on the plan, such as an unknown member of `plan` or of a change.
pub(crate) fn check(expanded: &Expanded) -> Vec<Diagnostic> {
    let change = Value::Map(CHANGE.into_iter().map(|name| (name.to_owned(), Value::Unknown)).collect());
    let mut sample: ValueMap = PLAN.into_iter().map(|name| (name.to_owned(), Value::Unknown)).collect();
    sample.insert("changes".to_owned(), Value::List(vec![change]));
    let counts = SUMMARY.into_iter().map(|name| (name.to_owned(), Value::Unknown));
    sample.insert("summary".to_owned(), Value::Map(counts.collect()));
    let scope = PolicyScope::new(expanded, Value::Map(sample));
    let policies = expanded.manifest.policies.values();
    let expressions = policies.flat_map(|policy| [&policy.condition, &policy.message]);
    expressions.filter_map(|expr| expr.evaluate(&scope).err()).flatten().collect()
}

fn violation(policy: &Policy, scope: &PolicyScope) -> Result<Option<String>, Vec<Diagnostic>> {
    let value = policy.condition.evaluate(scope)?;
    match value.as_bool() {
        Some(true) => Ok(None),
        Some(false) => Ok(Some(message(&policy.message, scope)?)),
        None => {
            let message = format!("the condition must be true or false, but it is a {}", value.type_name());
            Err(vec![Diagnostic::error(message).at(policy.condition.span, "")])
        }
    }
}

fn message(expr: &Expr, scope: &PolicyScope) -> Result<String, Vec<Diagnostic>> {
    let value = expr.evaluate(scope)?;
    if value.is_sensitive() {
        return Ok("(sensitive message)".to_owned());
    }
    to_text(&value).ok_or_else(|| {
        let message = format!("the message must be a string, but it is a {}", value.type_name());
        vec![Diagnostic::error(message).at(expr.span, "")]
    })
}

fn place(expanded: &Expanded, policy: &Policy) -> String {
    match expanded.manifest.sources.locate(policy.span) {
        Some((file, line, _)) => {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name}:{line}")
        }
        None => String::new(),
    }
}

/// The scope of a policy: everything that is known without resources, and `plan`.
struct PolicyScope<'a> {
    outside: InstanceScope<'a>,
    plan: Arc<Value>,
}

impl<'a> PolicyScope<'a> {
    fn new(expanded: &'a Expanded, plan: Value) -> Self {
        Self { outside: InstanceScope::new(expanded, Values::none(), Binding::default()), plan: Arc::new(plan) }
    }
}

impl Scope for PolicyScope<'_> {
    fn resolve(&self, reference: &Reference) -> Result<Arc<Value>, Unresolved> {
        match reference {
            Reference::Plan => Ok(self.plan.clone()),
            other => self.outside.resolve(other),
        }
    }

    fn files(&self) -> &Files {
        self.outside.files()
    }
}

/// The members of `plan`.
const PLAN: [&str; 7] = ["applying", "changes", "mode", "restarts_at_once", "rollouts", "summary", "timestamp"];
/// The members of `plan.summary`.
const SUMMARY: [&str; 5] = ["add", "change", "remove", "import", "forget"];
/// The members of each of `plan.changes`.
const CHANGE: [&str; 16] = [
    "address",
    "module_address",
    "type",
    "name",
    "key",
    "target",
    "node",
    "roles",
    "provider",
    "actions",
    "restart",
    "replaced",
    "objects",
    "dangerous",
    "consequences",
    "rollout",
];

/// Returns the path of the module of an address. `None` for the root.
fn module_address(address: &Address) -> Option<String> {
    let module = &address.resource.module;
    (!module.is_root()).then(|| module.to_string())
}

/// Returns the value of `plan`.
fn plan_value(expanded: &Expanded, plan: &Plan, applying: bool) -> Value {
    let rollout_of: HashMap<&Address, &PlannedRollout> = plan
        .rollouts
        .iter()
        .flat_map(|r| r.nodes.iter().flat_map(move |n| n.changes.iter().map(move |a| (a, r))))
        .collect();
    let changing = || plan.changes.iter().filter(|c| c.action.is_change());
    let rolled = |change: &Change| rollout_of.get(&change.address).copied();
    let mode = serde_json::to_value(plan.options.mode).unwrap_or_default();
    let members = [
        Value::Bool(applying),
        Value::List(changing().map(|change| change_value(expanded, change, rolled(change))).collect()),
        Value::from(mode),
        restarts_at_once(expanded, changing().map(|change| (change, rolled(change)))),
        Value::Map(plan.rollouts.iter().map(|rollout| (rollout.name.clone(), rollout_value(rollout))).collect()),
        summary_value(plan),
        Value::from(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    ];
    named(PLAN, members)
}

fn summary_value(plan: &Plan) -> Value {
    let summary = plan.summary();
    let counts = [summary.add, summary.change, summary.destroy, summary.adopt, summary.forget];
    named(SUMMARY, counts.map(count))
}

fn change_value(expanded: &Expanded, change: &Change, rollout: Option<&PlannedRollout>) -> Value {
    let texts = |texts: &[String]| Value::List(texts.iter().map(|text| Value::from(text.as_str())).collect());
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let node = change.bound_node(expanded);
    let names = |names: &[&str]| Value::List(names.iter().map(|name| Value::from(*name)).collect());
    let object = |object: &ObjectChange| {
        let paths: Vec<_> = object.replace_paths.iter().map(String::as_str).collect();
        named(
            ["identity", "name", "actions", "replaced"],
            [
                Value::from(object.identity.as_str()),
                Value::from(object.name.as_str()),
                names(object.action.names()),
                names(&paths),
            ],
        )
    };
    let members = [
        Value::from(change.address.to_string()),
        text(module_address(&change.address).as_deref()),
        Value::from(change.resource_type.as_str()),
        Value::from(change.address.resource.name.as_str()),
        text(change.address.key.as_deref()),
        Value::from(change.target.as_str()),
        text(node.as_ref().map(|node| node.name.0.as_str())),
        texts(node.as_ref().map(|node| node.roles.as_slice()).unwrap_or_default()),
        Value::from(change.provider.as_str()),
        names(&change.action_names()),
        Value::Bool(change.restarts()),
        names(&change.replace_paths().collect::<Vec<_>>()),
        Value::List(change.objects.iter().map(object).collect()),
        Value::Bool(change.is_dangerous()),
        Value::from(serde_json::to_value(&change.consequences).unwrap_or_default()),
        text(rollout.map(|rollout| rollout.name.as_str())),
    ];
    named(CHANGE, members)
}

fn rollout_value(rollout: &PlannedRollout) -> Value {
    let nodes = rollout.nodes.iter().map(|node| Value::from(node.name.0.as_str())).collect();
    let gates = rollout.gates.iter().map(|gate| Value::from(gate.as_str())).collect();
    named(
        ["max_unavailable", "nodes", "gates"],
        [count(rollout.max_unavailable), Value::List(nodes), Value::List(gates)],
    )
}

/// Returns for each role how many of its nodes may restart at the same time.
fn restarts_at_once<'p>(
    expanded: &Expanded,
    changes: impl Iterator<Item = (&'p Change, Option<&'p PlannedRollout>)>,
) -> Value {
    // The nodes that each rollout restarts, with the limit of the rollout. The key `None` stands for restarts outside of all rollouts.
    let mut restarted: BTreeMap<Option<&str>, (usize, BTreeSet<NodeName>)> = BTreeMap::new();
    for (change, rollout) in changes.filter(|(change, _)| change.restarts()) {
        let Some(node) = change.bound_node(expanded) else { continue };
        let limit = rollout.map_or(usize::MAX, |rollout| rollout.max_unavailable);
        let name = rollout.map(|rollout| rollout.name.as_str());
        restarted.entry(name).or_insert_with(|| (limit, BTreeSet::new())).1.insert(node.name.clone());
    }
    let has_role = |node: &NodeName, role: &str| {
        expanded.nodes.get(node).is_some_and(|node| node.roles.iter().any(|known| known == role))
    };
    let at_once = |role: &str| -> usize {
        let of_role = |nodes: &BTreeSet<NodeName>| nodes.iter().filter(|node| has_role(node, role)).count();
        restarted.values().map(|(limit, nodes)| of_role(nodes).min(*limit)).sum()
    };
    let roles: BTreeSet<&String> = expanded.inventory.iter().flat_map(|node| &node.roles).collect();
    Value::Map(roles.into_iter().map(|role| (role.clone(), count(at_once(role)))).collect())
}

fn named<const N: usize>(names: [&str; N], values: [Value; N]) -> Value {
    Value::Map(names.into_iter().map(str::to_owned).zip(values).collect())
}

fn count(count: usize) -> Value {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX))
}

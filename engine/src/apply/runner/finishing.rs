//! The steps after the last operation: outputs and checks.

use std::collections::BTreeMap;

use moorfast_state::Output;

use crate::apply::context::ApplyContext;
use crate::apply::report::Report;
use crate::configuration::scope::InstanceScope;
use crate::model::Value;
use crate::plan::PlanMode;

/// Evaluates the outputs with the current values, and adds them to the report. Returns the outputs to record.
///
/// An output that cannot be evaluated keeps its old value.
pub(super) fn outputs(context: &ApplyContext, report: &mut Report) -> BTreeMap<String, Output> {
    let mut recorded = BTreeMap::new();
    if context.plan.options.mode == PlanMode::Destroy {
        return recorded;
    }
    let scope = InstanceScope::new(&context.expanded, &context.values, Default::default());
    for (name, output) in &context.expanded.manifest.outputs {
        let value = output.value.evaluate(&scope).unwrap_or_else(|errors| {
            report.errors.extend(errors);
            Value::Unknown
        });
        let value = if output.sensitive { value.sensitive() } else { value };
        let is_known = !value.is_unknown() && !value.is_retained();
        let before = || context.plan.outputs.get(name).and_then(|output| output.before.clone());
        let sealed = if is_known { Some(value.seal(&context.key)) } else { before() };
        if let Some(sealed) = sealed {
            recorded.insert(name.clone(), Output { value: sealed, sensitive: value.is_sensitive() });
        }
        if is_known {
            report.outputs.insert(name.clone(), value);
        }
    }
    recorded
}

//! The results of operations: recorded, and passed to the expressions of their dependants.

use moorfast_state::Outcome;

use crate::apply::context::ApplyContext;
use crate::apply::journal::{Journal, OpenOperation};
use crate::configuration::evaluate::violated;
use crate::configuration::scope::InstanceScope;
use crate::configuration::static_values::deduplicated;
use crate::model::{Attributes, Diagnostic, Value};
use crate::plan::order::PlannedPart;
use crate::plan::sequence::Part;
use crate::provider::{Applied, Class, ProviderError};

/// Returns the outcome to record for an ended operation, and its notes or its error. The attributes of the object become known to expressions.
pub(super) fn outcome(
    context: &mut ApplyContext,
    journal: &mut Journal<'_>,
    part: PlannedPart,
    operation: &OpenOperation,
    desired: Option<Attributes>,
    result: Result<Applied, ProviderError>,
) -> (Outcome, Result<Vec<String>, ProviderError>) {
    let Applied { attributes, private, notes } = match result {
        Ok(applied) => applied,
        Err(error) => return (journal.failed(context, operation, desired.as_ref(), &error), Err(error)),
    };
    if let Part::Remove(old) = part.part {
        return (journal.removed(context, part, old), Ok(notes));
    }
    let outcome = journal.made(context, part, &attributes, private);
    let mut values = desired.unwrap_or_default();
    values.retain(|_, value| !value.is_null());
    values.extend(attributes);
    (outcome, learn(context, part.change, values).map(|()| notes))
}

/// Makes the attributes of a data source known to expressions.
///
/// # Errors
/// If a postcondition is violated.
pub(super) fn learn_data(
    context: &mut ApplyContext,
    change: usize,
    arguments: Attributes,
    data: Attributes,
) -> Result<(), ProviderError> {
    let mut values = arguments;
    values.extend(data);
    learn(context, change, values)
}

/// Returns the errors of a change as one.
pub(super) fn invalid(errors: Vec<Diagnostic>) -> ProviderError {
    let mut errors = deduplicated(errors).into_iter();
    let first = errors.next();
    let summary = first.as_ref().map_or_else(String::new, |e| e.summary.clone());
    let mut error = ProviderError::new(Class::Invalid, summary).detail(errors.map(|e| e.summary));
    error.help = first.and_then(|e| e.help);
    error
}

fn learn(context: &mut ApplyContext, change: usize, values: Attributes) -> Result<(), ProviderError> {
    let ApplyContext { plan, expanded, values: known, .. } = context;
    let address = &plan.changes[change].address;
    let with_conditions = expanded.instance(address).filter(|instance| !instance.resource.postconditions.is_empty());
    let with_conditions = with_conditions.map(|instance| (instance, values.clone()));
    known.insert(address.clone(), values);
    let Some((instance, values)) = with_conditions else { return Ok(()) };
    let scope = InstanceScope::new(expanded, known, instance.binding.clone()).with_self(Value::Map(values));
    let violated = violated(&instance.resource.postconditions, &format!("postcondition of {address}"), &scope);
    if violated.is_empty() { Ok(()) } else { Err(invalid(violated)) }
}

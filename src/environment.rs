//! The choice of an environment: `--env NAME` or MOORFAST_ENV.

use std::path::Path;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Diagnostic, suggest};
use moorfast_engine::plan::Plan;
use moorfast_engine::state::EnvironmentName;

use crate::backend;
use crate::error::Error;
use crate::error_codes;
use crate::inputs::Inputs;

/// Checks that an environment is chosen if the manifest has environments, and that the chosen one exists.
///
/// MOORFAST_ENV is not ignored in a manifest without environments: a file with the environments may be missing, and without it the state would be another one.
///
/// # Errors
/// If none is chosen, with a list of the environments, or if the chosen one does not exist.
pub fn check(manifest: &Manifest) -> Result<(), Error> {
    let names: Vec<_> = manifest.environments.keys().map(EnvironmentName::as_str).collect();
    let Some(chosen) = &manifest.environment else {
        return match names.is_empty() {
            true => Ok(()),
            false => Err(Error::Usage {
                message: format!("no environment is chosen: the manifest has {}", listed(&names)),
                help: Some(format!("choose one with `--env {}`, or with MOORFAST_ENV", names[0])),
                code: Some(error_codes::NO_ENVIRONMENT),
            }),
        };
    };
    if manifest.environments.contains_key(chosen) {
        return Ok(());
    }
    if names.is_empty() {
        return Err(Error::usage(
            format!("cannot use the environment `{chosen}`: the manifest has no environments"),
            format!("omit `--env` and unset MOORFAST_ENV, or declare [environments.{chosen}]"),
        ));
    }
    let help = suggest(chosen.as_str(), names.iter().copied());
    let help = help.unwrap_or_else(|| format!("its environments are {}", listed(&names)));
    Err(Error::usage(format!("the manifest has no environment `{chosen}`"), help))
}

/// Checks that a plan is of the chosen environment.
///
/// # Errors
/// If it is of another one.
pub fn check_plan(plan: &Plan, chosen: Option<&EnvironmentName>) -> Result<(), Error> {
    if plan.environment.as_ref() == chosen {
        return Ok(());
    }
    let name = |environment: Option<&EnvironmentName>| match environment {
        Some(name) => format!("the environment `{name}`"),
        None => "no environment".to_owned(),
    };
    Err(Error::usage(
        format!("cannot apply this plan in {}: it was made for {}", name(chosen), name(plan.environment.as_ref())),
        "choose the environment of the plan, or make a new plan",
    ))
}

/// The errors and warnings in an environment.
pub type Found = (Option<EnvironmentName>, Vec<Diagnostic>);

/// Returns the errors and warnings of all environments, each once. One that not all environments have names its environments.
pub fn merged(found: &[Found]) -> Vec<Diagnostic> {
    let mut merged: Vec<Diagnostic> = Vec::new();
    for (_, of_environment) in found {
        let new: Vec<_> = of_environment.iter().filter(|error| !merged.contains(error)).cloned().collect();
        merged.extend(new);
    }
    named(&merged, found)
}

/// Adds the names of the environments to the errors and warnings that not all environments have.
pub fn named(errors: &[Diagnostic], found: &[Found]) -> Vec<Diagnostic> {
    let named = errors.iter().map(|error| {
        let having = found.iter().filter(|(_, of_environment)| of_environment.contains(error));
        let names: Vec<_> = having.filter_map(|(name, _)| name.as_ref()).map(EnvironmentName::as_str).collect();
        let environments = match names.as_slice() {
            all if all.len() == found.len() => return error.clone(),
            [] => return error.clone(),
            [only] => format!("the environment `{only}`"),
            several => format!("the environments {}", listed(several)),
        };
        Diagnostic { summary: format!("{} (in {environments})", error.summary), ..error.clone() }
    });
    named.collect()
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// An environment with the place of its state.
pub struct Placed {
    /// The name.
    pub name: EnvironmentName,
    /// Whether it is the chosen one.
    pub is_chosen: bool,
    /// The place of its state, or the reason why it is unknown, for example a variable without a value.
    pub place: Result<String, String>,
}

/// Returns all environments of the manifest, whose states are in `data_dir` unless they have a backend. Opens no state.
pub fn all(manifest: &Manifest, inputs: &Inputs, data_dir: &Path) -> Vec<Placed> {
    let names = manifest.environments.keys();
    let placed = names.map(|name| Placed {
        name: name.clone(),
        is_chosen: manifest.environment.as_ref() == Some(name),
        place: place(manifest.clone().in_environment(Some(name.clone())), inputs, data_dir),
    });
    placed.collect()
}

/// Returns the place of the state of a manifest in its environment.
fn place(manifest: Manifest, inputs: &Inputs, data_dir: &Path) -> Result<String, String> {
    let variables = inputs.known_values(&manifest);
    let location = variables.and_then(|variables| backend::configured(&manifest, &variables));
    let folder = EnvironmentName::folder(manifest.environment.as_ref(), data_dir);
    location.map(|location| backend::place(&location, &folder)).map_err(|error| error.first_summary())
}

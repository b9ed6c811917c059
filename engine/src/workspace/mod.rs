//! A workspace: a manifest with its providers and the values of its variables. Commands work on a workspace.

mod access;
mod existing;
mod import;
mod planning;
mod static_data;
mod webhook;

pub use access::Access;
pub use planning::Planned;
pub use webhook::Webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moorfast_state::Snapshot;

use crate::configuration::GraphView;
use crate::configuration::evaluate::check_unexpanded;
use crate::configuration::expand::{Binding, Expanded};
use crate::configuration::graph::Graph;
use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::static_data::StaticData;
use crate::configuration::static_values::{StaticValues, deduplicated};
use crate::expression::Expr;
use crate::manifest::{Inventory, Manifest};
use crate::model::{Address, Attributes, Decoded, Diagnostic, Mark, Pattern, Value, unseal};
use crate::provider::Provider;
use crate::provider::catalog::Catalog;

/// A manifest with its providers and the values of its variables.
pub struct Workspace {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The providers of this binary.
    pub providers: Vec<Arc<dyn Provider>>,
    /// The values of the variables.
    pub variables: BTreeMap<String, Value>,
    /// The folder for moorfast's own files beside the manifest: `.moorfast`.
    pub data_dir: PathBuf,
    /// The name of the site, which plans contain.
    pub site: String,
    /// The results of earlier operations.
    cache: Mutex<Cache>,
}

/// What operations on a workspace share.
#[derive(Default)]
struct Cache {
    /// The results of the static data sources. `None` if they were not read.
    static_data: Option<Arc<StaticData>>,
    /// The expanded manifest.
    expanded: Option<Arc<Expanded>>,
    /// The expanded manifest, evaluated.
    evaluated: Option<Arc<Evaluated>>,
}

/// The results of an evaluation of the manifest without the state and without any target.
pub(crate) struct Evaluated {
    pub graph: Graph,
    pub static_values: Arc<StaticValues>,
}

impl Workspace {
    /// Returns the workspace of a manifest.
    pub fn new(
        manifest: Arc<Manifest>,
        providers: Vec<Arc<dyn Provider>>,
        variables: BTreeMap<String, Value>,
        data_dir: PathBuf,
        site: String,
    ) -> Self {
        Self { manifest, providers, variables, data_dir, site, cache: Mutex::default() }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the expanded manifest.
    ///
    /// # Errors
    /// If the manifest is invalid, or depends on static data that was not read.
    pub(crate) fn expanded(&self) -> Result<Arc<Expanded>, Vec<Diagnostic>> {
        let expanded = self.as_far_as_known()?;
        match expanded.open.as_slice() {
            [] => Ok(expanded),
            reasons => Err(deduplicated(reasons.to_vec())),
        }
    }

    /// Returns the manifest, expanded as far as the static data is known.
    fn as_far_as_known(&self) -> Result<Arc<Expanded>, Vec<Diagnostic>> {
        let mut cache = self.cache();
        if let Some(expanded) = &cache.expanded {
            return Ok(expanded.clone());
        }
        let catalog = Catalog::new(&self.providers);
        let static_data = cache.static_data.clone().unwrap_or_default();
        let expanded = Expanded::new(self.manifest.clone(), self.variables.clone(), catalog, static_data)?;
        Ok(cache.expanded.insert(Arc::new(expanded)).clone())
    }

    /// Returns the graph and the static values of the expanded manifest.
    fn evaluated(&self) -> Result<Arc<Evaluated>, Vec<Diagnostic>> {
        let expanded = self.as_far_as_known()?;
        if let Some(evaluated) = &self.cache().evaluated {
            return Ok(evaluated.clone());
        }
        let mut graph = Graph::new(&expanded)?;
        let static_values = Arc::new(StaticValues::new(&expanded, &mut graph)?);
        Ok(self.cache().evaluated.insert(Arc::new(Evaluated { graph, static_values })).clone())
    }

    /// Checks everything that needs neither the state nor any target, and returns the errors and warnings.
    ///
    /// If the static data was not read, its values are unknown, and the blocks that need it for their expansion are checked once and not for each instance.
    pub fn validate(&self) -> Vec<Diagnostic> {
        let expanded = match self.as_far_as_known() {
            Ok(expanded) => expanded,
            Err(errors) => return errors,
        };
        let mut errors = self.evaluated().err().unwrap_or_default();
        errors.extend(expanded.unexpanded.iter().flat_map(|address| check_unexpanded(&expanded, address)));
        for (i, module) in expanded.modules.iter().enumerate() {
            let scope = InstanceScope::new(&expanded, Values::none(), Binding::of_module(i));
            let outputs = module.manifest.outputs.values().map(|output| &output.value);
            let free = outputs.chain(module.manifest.locals.values()).filter_map(|expr| expr.evaluate(&scope).err());
            errors.extend(free.flatten());
        }
        errors.extend(crate::policy::check(&expanded));
        errors.extend(crate::check::untrusted_requests(&self.manifest));
        errors.extend(crate::check::validate(&expanded));
        let configurations = self.manifest.providers.keys().filter_map(|alias| {
            crate::session::configuration(&expanded, expanded.catalog.provider(alias)?.as_ref(), alias).err()
        });
        errors.extend(configurations.flatten());
        errors.extend(crate::configuration::moves::without_destination(&expanded));
        errors.extend(expanded.warnings.iter().cloned());
        deduplicated(errors)
    }

    /// Returns the nodes of the manifest.
    ///
    /// # Errors
    /// If the manifest is invalid.
    pub fn inventory(&self) -> Result<Inventory, Vec<Diagnostic>> {
        Ok(self.expanded()?.inventory.clone())
    }

    /// Returns the instances that `pattern` selects, in the order of their resources.
    ///
    /// # Errors
    /// If the manifest is invalid.
    pub fn instances(&self, pattern: &Pattern) -> Result<Vec<Address>, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let resources = expanded.resources_of(pattern).into_iter();
        let instances = resources.flat_map(|resource| expanded.instances_of_resource(resource));
        Ok(instances.map(|instance| instance.address.clone()).filter(|address| address.matches(pattern)).collect())
    }

    /// Returns the configuration of a provider instance, validated and with defaults. Returns no attributes if this binary does not have the provider.
    ///
    /// # Errors
    /// If the manifest or the configuration is invalid.
    pub fn provider_configuration(&self, alias: &str) -> Result<Attributes, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        match expanded.catalog.provider(alias) {
            Some(provider) => crate::session::configuration(&expanded, provider.as_ref(), alias),
            None => Ok(Attributes::new()),
        }
    }

    /// Returns the dependency graph of the instances.
    ///
    /// # Errors
    /// If the manifest is invalid. A cycle is one of the errors.
    pub fn graph(&self) -> Result<GraphView, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        Ok(self.evaluated()?.graph.view(&expanded))
    }

    /// Evaluates an expression of `moorfast console`. Resources have their recorded values.
    ///
    /// # Errors
    /// If the expression or the manifest is invalid.
    pub fn evaluate(&self, expression: &str, state: &Snapshot) -> Result<Value, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let mut values = Values::default();
        for (address, record) in Decoded::of(state).records {
            values.insert(address, record.attributes.iter().map(|(k, v)| (k.clone(), unseal(v, &stand_in))).collect());
        }
        let span = crate::model::Span { file: usize::MAX, start: 0, end: expression.len() };
        let expr = Expr::expression(expression, span).map_err(|error| vec![*error])?;
        expr.evaluate(&InstanceScope::new(&expanded, &values, Binding::default()))
    }
}

/// Returns the value that `moorfast console` uses in place of a mark. A sensitive value becomes an empty sensitive string.
fn stand_in(mark: Mark) -> Value {
    if mark.is_sensitive() { Value::from("").sensitive() } else { Value::Unknown }
}

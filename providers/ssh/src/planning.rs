//! The planning of changes on a node: the proposals, with the obstacles that were read on the node and the side effects that it simulates.

use std::sync::Arc;

use moorfast_engine::provider::{
    Class, Consequence, PlanRequest, Proposal, ProposedAction, ProviderError, ReadRequest,
};

use crate::failure::{require_success, shortened};
use crate::limits::quick_limit;
use crate::node_shell::NodeShell;
use crate::resource::Resource;
use crate::resource_type::resource_of;
use crate::script::{Script, per_section};
use crate::sources::Sources;

/// Returns the proposals for `requests`. Without a shell, a change without a simulation is still proposed.
pub(crate) async fn plan(
    shell: Result<Arc<NodeShell>, ProviderError>,
    requests: &[PlanRequest],
    sources: &Sources,
) -> Vec<Result<Proposal, ProviderError>> {
    let plan = |request: &PlanRequest| resource_of(&request.resource_type)?.plan(request, sources);
    let mut proposals: Vec<_> = requests.iter().map(plan).collect();
    if let Ok(shell) = &shell {
        add_obstacles(shell, requests, &mut proposals);
    }
    simulate(shell, requests, &mut proposals).await;
    proposals
}

/// Adds the obstacles to the proposals that were read together with their objects.
fn add_obstacles(shell: &NodeShell, requests: &[PlanRequest], proposals: &mut [Result<Proposal, ProviderError>]) {
    let mut preconditions = shell.preconditions();
    for (request, proposal) in requests.iter().zip(proposals.iter()) {
        if let Ok(proposal) = proposal {
            preconditions.plan(request, proposal);
        }
    }
    for (request, proposal) in requests.iter().zip(proposals) {
        if let Ok(proposal) = proposal
            && proposal.action != ProposedAction::NoOp
        {
            let obstacles = preconditions.obstacles(request, proposal);
            proposal.consequences.extend(obstacles);
        }
    }
}

/// Adds the side effects of the planned changes to the proposals, with one exec if a change must be simulated.
async fn simulate(
    shell: Result<Arc<NodeShell>, ProviderError>,
    requests: &[PlanRequest],
    proposals: &mut [Result<Proposal, ProviderError>],
) {
    let mut script = Script::new();
    let mut simulated = Vec::new();
    for (request, proposal) in requests.iter().zip(proposals) {
        let acts = proposal.as_ref().is_ok_and(|proposal| proposal.action != ProposedAction::NoOp);
        let Some(resource) = resource_of(&request.resource_type).ok().filter(|_| acts) else { continue };
        if let Some(simulation) = resource.simulation(request) {
            script.section(&simulation);
            simulated.push((resource, request, proposal));
        }
    }
    if simulated.is_empty() {
        return;
    }
    let answers = match shell {
        Ok(shell) => {
            let answers = per_section(shell.read(&script, quick_limit(simulated.len())).await, simulated.len());
            let what = |(resource, request): (&dyn Resource, &PlanRequest), answer| {
                let identity = resource.identity(&request.desired).unwrap_or_default();
                require_success(&shell.node, &format!("simulate {}", identity.replace(':', " ")), answer?)
                    .map_err(shortened)
            };
            let pairs = simulated.iter().map(|(resource, request, _)| (*resource, *request));
            pairs.zip(answers).map(|(pair, answer)| what(pair, answer)).collect()
        }
        Err(error) => vec![Err(error); simulated.len()],
    };
    for ((resource, request, proposal), answer) in simulated.into_iter().zip(answers) {
        match (answer, proposal) {
            (Ok(answer), Ok(proposal)) => resource.add_simulation(request, &answer, proposal),
            // Nothing is changed on a machine that is not approved. The plan after its approval simulates.
            (Err(error), Ok(_)) if error.class == Class::Identity => {}
            (Err(error), proposal) => *proposal = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
}

/// Returns the side effects of removals, with one exec if a removal must be simulated.
pub(crate) async fn removal_consequences(
    shell: Result<Arc<NodeShell>, ProviderError>,
    requests: &[ReadRequest],
) -> Vec<Result<Vec<Consequence>, ProviderError>> {
    let mut consequences: Vec<_> = requests.iter().map(|_| Ok(Vec::new())).collect();
    let mut script = Script::new();
    let mut simulated = Vec::new();
    for (request, consequences) in requests.iter().zip(&mut consequences) {
        let (Ok(resource), Some(record)) = (resource_of(&request.resource_type), &request.recorded) else { continue };
        if let Some(simulation) = resource.removal_simulation(record) {
            script.section(&simulation);
            simulated.push((resource, record, consequences));
        }
    }
    if simulated.is_empty() {
        return consequences;
    }
    let answers = match &shell {
        Ok(shell) => per_section(shell.read(&script, quick_limit(simulated.len())).await, simulated.len()),
        Err(error) => vec![Err(error.clone()); simulated.len()],
    };
    for ((resource, record, consequences), answer) in simulated.into_iter().zip(answers) {
        let what = format!("simulate the removal of {}", record.identity.replace(':', " "));
        let answer = match &shell {
            Ok(shell) => answer.and_then(|answer| require_success(&shell.node, &what, answer).map_err(shortened)),
            Err(_) => answer,
        };
        *consequences = answer.map(|answer| resource.removal_consequences(record, &answer));
    }
    consequences
}

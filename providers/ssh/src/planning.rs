//! The planning of changes on a node: the proposals, with the obstacles that were read on the node and the side effects that it simulates.

use std::sync::Arc;

use moorfast_engine::provider::{Class, PlanRequest, Proposal, ProposedAction, ProviderError};

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

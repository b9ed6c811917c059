//! The wait until an object is healthy.

use std::time::{Duration, Instant};

use moorfast_engine::provider::{Class, Progress, ProviderError, ReadRequest};

use crate::failure::require_success;
use crate::limits::QUICK_LIMIT;
use crate::node_shell::NodeShell;
use crate::resource::label;
use crate::resource_type::resource_of;
use crate::script::{Script, per_section};
use crate::subject::Subject;

/// The pause between two health checks of an object that is not healthy yet.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

/// Checks the health of the object until it is healthy, and reports the progress of the wait.
///
/// # Errors
/// If its type has no health check, or if the object is not healthy within `limit`.
pub(crate) async fn wait(
    shell: &NodeShell,
    request: &ReadRequest,
    limit: Duration,
    progress: &Progress,
) -> Result<(), ProviderError> {
    let resource = resource_of(&request.resource_type)?;
    let subject = Subject::of_read(request);
    let Some(health) = resource.health(&subject) else {
        return Err(ProviderError::new(
            Class::Invalid,
            format!("{} has no health check", request.resource_type.name()),
        ));
    };
    let (what, end) = (label(resource, &subject), Instant::now() + limit);
    loop {
        let answer = per_section(shell.read(&Script::of(&health), QUICK_LIMIT).await, 1).pop();
        let answer = answer.unwrap_or_else(|| Err(ProviderError::new(Class::Failed, "the node returned no answer")))?;
        let ill = match require_success(&shell.node, &format!("check the health of {what}"), answer) {
            Ok(_) => return Ok(()),
            Err(ill) => ill,
        };
        progress.report(&request.address, ill.summary.clone());
        if Instant::now() + HEALTH_PAUSE > end {
            return Err(ProviderError { class: Class::Timeout, ..ill });
        }
        tokio::time::sleep(HEALTH_PAUSE).await;
    }
}

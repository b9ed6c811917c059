//! The local machine, without ssh.

use std::process::Stdio;

use async_trait::async_trait;
use moorfast_engine::provider::{Class, ProviderError};

use super::{Channel, Transport};

/// A transport that runs commands as child processes.
pub(crate) struct Local;

#[async_trait]
impl Transport for Local {
    async fn open(&self, command: &str) -> Result<Channel, ProviderError> {
        let broken = |what: &str| ProviderError::new(Class::Failed, format!("cannot start sh on this machine: {what}"));
        let mut child = moorfast_programs::command("sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| broken(&e.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(broken("it has no pipes"));
        };
        Ok(Channel {
            stdin: Box::pin(stdin),
            stdout: Box::pin(stdout),
            stderr: Box::pin(stderr),
            alive: Box::new(child),
        })
    }

    async fn close(&self) {}
}

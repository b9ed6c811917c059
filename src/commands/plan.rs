//! `moorfast plan`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moorfast_engine::plan::{Plan as Made, PlanMode, PlanOptions};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::plan_file;
use crate::planning::{Replacing, Run, Scope, parse_duration};
use crate::render::progress::Form;
use crate::render::report::effort;
use crate::render::style::{BOLD, DIM, paint};
use crate::render::{json, plan};
use crate::session::Session;
use crate::signature::{PASSPHRASE, SignKey, SignatureError};

/// Show what an apply would change and why.
///
/// Reads the world and shows what an apply would change and why. Changes nothing.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Save the plan, so that `moorfast apply FILE` does exactly this
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign the saved plan with this private key of OpenSSH (ed25519); MOORFAST_SIGN_KEY_PASSPHRASE opens one with a passphrase
    #[arg(long, value_name = "FILE", requires = "out")]
    sign_key: Option<PathBuf>,
    /// Plan to remove everything that the state holds
    #[arg(long, conflicts_with = "refresh_only")]
    destroy: bool,
    /// Plan only to record what the world is like now
    #[arg(long)]
    refresh_only: bool,
    /// Exit with 0 for no changes, 1 for an error, 2 for changes
    #[arg(long)]
    detailed_exitcode: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Refuse whatever lets a manifest that nobody reviewed read files, run commands or make requests from this machine
    #[arg(long)]
    untrusted: bool,
    /// Take the lock of the state; `--lock=false` only reads, also where the state cannot be written
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    lock: bool,
    /// Show long texts whole
    #[arg(long)]
    full: bool,
    /// Wait this long for a run that is changing the world now
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    lock_timeout: Duration,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    inputs: Inputs,
}

impl Plan {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        let session = &session.reading(self.untrusted);
        let started = Instant::now();
        // A key that can't sign is told before the world is read.
        let key = self.sign_key.as_deref().map(sign_key).transpose()?;
        let workspace = session.checked_workspace(&self.inputs)?;
        let store = if self.lock { session.store().await? } else { session.store_for_a_look().await? };
        let run = Run::new(session, &workspace, Form::Text);
        // A plan made while another run changes the world would be stale at once.
        let lock = match self.lock {
            true => Some(run.lock(&store, "plan", self.lock_timeout).await?),
            false => None,
        };
        let planned = run.plan(&store, &store.snapshot().await?, &self.options()).await?;
        if let Some(lock) = lock {
            lock.release().await?;
        }
        let (planned, said) = run.judged(planned, false).await?;
        let (made, statistics) = (planned.plan.clone(), planned.statistics());
        planned.close().await;
        if let Some(path) = &self.out {
            plan_file::write(path, &made, key.as_ref())?;
        }
        if self.json {
            session.ui.json(format!("{:#}\n", json::plan(&made)))?;
        } else {
            session.ui.out(plan::plan(&made, session.ui.room(self.full)))?;
            session.ui.note(format!("\nPlanned {}.\n", effort(&statistics, started.elapsed())));
            session.ui.note(self.what_next(&made));
        }
        if made.is_denied() {
            if !self.json {
                run.tell_policies(&said);
            }
            return Ok(Exit::Error);
        }
        Ok(if self.detailed_exitcode && made.has_changes() { Exit::Changes } else { Exit::Success })
    }

    fn options(&self) -> PlanOptions {
        let mode = match (self.destroy, self.refresh_only) {
            (true, _) => PlanMode::Destroy,
            (_, true) => PlanMode::RefreshOnly,
            _ => PlanMode::Normal,
        };
        self.replacing.of(self.scope.options(mode))
    }

    fn what_next(&self, made: &Made) -> String {
        match &self.out {
            Some(_) if made.is_denied() => {
                "\nSaved as evidence only: what a policy denies is not applied.\n".to_owned()
            }
            Some(path) => {
                format!("\nSaved. {} does exactly this.\n", paint(BOLD, format!("moorfast apply {}", path.display())))
            }
            None if made.has_changes() && !made.is_denied() => {
                paint(DIM, "\nNot saved: an apply plans anew. `--out FILE` saves a plan for review.\n")
            }
            None => String::new(),
        }
    }
}

fn sign_key(path: &Path) -> Result<SignKey, SignatureError> {
    let passphrase = std::env::var(PASSPHRASE).ok().map(Zeroizing::new);
    SignKey::read(path, passphrase.as_ref().map(|text| text.as_str()))
}

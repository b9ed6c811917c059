//! `moorfast plan`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moorfast_engine::plan::{PlanMode, PlanOptions};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::plan_file;
use crate::planning::{Replacements, Run, Selection, parse_duration};
use crate::render::progress::ProgressFormat;
use crate::render::report::run_statistics;
use crate::render::text::{Line, Style, Text, styled};
use crate::render::{json, plan};
use crate::signature::{PASSPHRASE, SignKey, SignatureError};

const EXAMPLES: &str = r#"Examples:
  moorfast plan                            show what an apply would do, and why
  moorfast plan --out plan.moorfast        save the plan for a review
  moorfast plan -var port=9090             set a variable
  moorfast plan --target ssh_file.motd     plan only one resource and its dependencies
  moorfast plan --detailed-exitcode        exit with 2 if there are changes"#;

/// Show the changes that an apply would make.
///
/// Reads the nodes and clusters, and shows the changes that an apply would make, with the reasons. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Plan {
    /// Save the plan to a file; `moorfast apply FILE` makes exactly its changes
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign the saved plan with this OpenSSH private key (ed25519); its passphrase is read from MOORFAST_SIGN_KEY_PASSPHRASE
    #[arg(long, value_name = "FILE", requires = "out")]
    sign_key: Option<PathBuf>,
    /// Plan to destroy all objects in the state
    #[arg(long, conflicts_with = "refresh_only")]
    destroy: bool,
    /// Plan to update the state to match the real objects, and to change no object
    #[arg(long)]
    refresh_only: bool,
    /// Exit with 0 if there are no changes, 1 after an error, 2 if there are changes
    #[arg(long)]
    detailed_exitcode: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Plan a manifest that nobody reviewed: refuse everything that would read files, run commands or make requests on this machine
    #[arg(long)]
    untrusted: bool,
    /// Lock the state while planning; `--lock=false` also works if the state is read-only
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    lock: bool,
    /// Show long texts in full
    #[arg(long)]
    full: bool,
    /// Maximum time to wait for the state lock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    lock_timeout: Duration,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    replacements: Replacements,
    #[command(flatten)]
    inputs: Inputs,
}

impl Plan {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let invocation = &invocation.with_untrusted(self.untrusted);
        let started = Instant::now();
        // An unusable key is reported before any node or cluster is read.
        let key = self.sign_key.as_deref().map(sign_key).transpose()?;
        let workspace = invocation.checked_workspace(&self.inputs)?;
        let store = if self.lock { invocation.store().await? } else { invocation.writable_or_readable_store().await? };
        let run = Run::new(invocation, &workspace, ProgressFormat::Text);
        // A plan created while another run makes changes would be stale at once.
        let lock = match self.lock {
            true => Some(run.lock(&store, "plan", self.lock_timeout).await?),
            false => None,
        };
        let planned = run.plan(&store, &store.snapshot().await?, &self.options()).await?;
        if let Some(lock) = lock {
            lock.release().await?;
        }
        let (planned, messages) = run.with_policies(planned, false).await?;
        let statistics = planned.statistics();
        let plan = planned.close().await;
        if let Some(path) = &self.out {
            plan_file::write(path, &plan, key.as_ref())?;
        }
        if self.json {
            invocation.ui.json(format!("{:#}\n", json::plan(&plan)))?;
        } else {
            invocation.ui.out(plan::plan(&plan, invocation.text_options(self.full)))?;
            let took = run_statistics(&statistics, started.elapsed());
            invocation.ui.note(Text::from("\n") + (Line::from("Planned ") + took + "."));
            invocation.ui.note(self.next_step(&plan));
        }
        if plan.is_denied() {
            if !self.json {
                run.print_policy_messages(&messages);
            }
            return Ok(Exit::Error);
        }
        Ok(if self.detailed_exitcode && plan.has_changes() { Exit::Changes } else { Exit::Success })
    }

    fn options(&self) -> PlanOptions {
        let mode = match (self.destroy, self.refresh_only) {
            (true, _) => PlanMode::Destroy,
            (_, true) => PlanMode::RefreshOnly,
            _ => PlanMode::Normal,
        };
        self.replacements.add_to(self.selection.options(mode))
    }

    fn next_step(&self, plan: &moorfast_engine::plan::Plan) -> Text {
        match &self.out {
            Some(_) if plan.is_denied() => {
                "\nSaved for review only: a plan that a policy denies cannot be applied.".into()
            }
            Some(_) if !plan.has_changes() => "\nSaved the plan.".into(),
            Some(path) => {
                let command = styled(Style::Bold, format!("moorfast apply {}", path.display()));
                Text::from("\n") + (Line::from("Saved the plan. To make exactly these changes, run: ") + command)
            }
            None if plan.has_changes() && !plan.is_denied() => {
                let hint = "The plan was not saved, so `moorfast apply` plans again. Use `--out FILE` to save it.";
                Text::from("\n") + styled(Style::Dim, hint)
            }
            None => Text::default(),
        }
    }
}

fn sign_key(path: &Path) -> Result<SignKey, SignatureError> {
    let passphrase = std::env::var(PASSPHRASE).ok().map(Zeroizing::new);
    SignKey::read(path, passphrase.as_ref().map(|text| text.as_str()))
}

//! `moorfast show`

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;

use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::plan_file;
use crate::render::markdown::{FEWEST, GITHUB};
use crate::render::{html, json, markdown, plan, record};
use crate::signature::TrustedKeys;

const EXAMPLES: &str = r#"Examples:
  moorfast show                            show the recorded objects
  moorfast show plan.moorfast              show a saved plan
  moorfast show --markdown plan.moorfast   print it for a pull request
  moorfast show --html plan.moorfast       print it as a page for a browser"#;

/// Show the state, or a saved plan.
///
/// Shows the state, or a saved plan. Needs no manifest.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Show {
    /// A saved plan, written by `moorfast plan --out FILE` [default: the state]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the state or the plan as JSON
    #[arg(long, conflicts_with_all = ["markdown", "html"])]
    json: bool,
    /// Print the saved plan as Markdown, for the comment of a pull request
    #[arg(long, requires = "file", conflicts_with = "html")]
    markdown: bool,
    /// Maximum length of the Markdown in characters: 65536 on GitHub, 1000000 on GitLab
    #[arg(long, value_name = "N", requires = "markdown", default_value_t = GITHUB, value_parser = RangedU64ValueParser::<usize>::new().range(FEWEST as u64..))]
    limit: usize,
    /// Print the saved plan as a self-contained HTML page
    #[arg(long, requires = "file")]
    html: bool,
    /// Show long texts in full
    #[arg(long)]
    full: bool,
    /// Show the saved plan only if one of these keys signed it: a file of OpenSSH public keys, or a folder of *.pub files
    #[arg(long, value_name = "KEYS", requires = "file")]
    verify: Option<PathBuf>,
}

impl Show {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let options = invocation.text_options(self.full);
        if let Some(file) = &self.file {
            let saved = plan_file::read(file)?;
            if let Some(keys) = &self.verify {
                let signer = saved.verify(&TrustedKeys::read(keys)?)?;
                invocation.ui.note(format!("The plan is signed by {signer}.\n\n"));
            }
            let saved = saved.plan;
            if self.json {
                invocation.ui.json(format!("{:#}\n", json::plan(&saved)))?;
                return Ok(Exit::Success);
            }
            invocation.ui.out(match self {
                Show { markdown: true, .. } => {
                    markdown::plan(&saved, self.limit, invocation.derived_attributes()).into()
                }
                Show { html: true, .. } => html::plan(&saved, invocation.derived_attributes()).into(),
                _ => plan::plan(&saved, options),
            })?;
            return Ok(Exit::Success);
        }
        let snapshot = invocation.filled(&invocation.state().await?).await?;
        match self.json {
            true => invocation.ui.json(snapshot.to_json().map_err(|error| Error::Output(error.into()))? + "\n"),
            false => invocation.ui.out(record::snapshot(&snapshot, options)),
        }?;
        Ok(Exit::Success)
    }
}

//! `moorfast output`

use moorfast_engine::model::suggest;
use moorfast_engine::state::Output as RecordedOutput;

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::render::text::Text;
use crate::render::{inline, record};

/// Print outputs of the last apply.
///
/// Prints outputs of the last apply. Sensitive outputs are not stored, so they cannot be printed.
#[derive(Debug, clap::Args)]
pub struct Output {
    /// The output to print [default: all outputs]
    #[arg(add = completer(Names::Outputs))]
    name: Option<String>,
    /// Print the outputs as JSON
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print a string, number or bool without quotes and without a trailing newline
    #[arg(long, requires = "name")]
    raw: bool,
}

impl Output {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let outputs = invocation.filled(&invocation.state().await?).await?.outputs;
        let text = match &self.name {
            None if self.json => return invocation.ui.json(format!("{:#}\n", serde_json::json!(outputs))).map(success),
            None if outputs.is_empty() => {
                invocation.ui.note("The state has no outputs.\n");
                Text::default()
            }
            None => record::outputs(&outputs),
            Some(name) => {
                let known = outputs.keys().map(String::as_str);
                let help = suggest(name, known).unwrap_or_else(|| {
                    "declare it as [outputs.NAME] in the manifest and run `moorfast apply`".to_owned()
                });
                let output =
                    outputs.get(name).ok_or_else(|| Error::usage(format!("the state has no output `{name}`"), help))?;
                let text = self.value(name, output)?;
                return match (self.json, self.raw) {
                    (true, _) => invocation.ui.json(text),
                    (_, true) => invocation.ui.data(text),
                    _ => invocation.ui.out(text),
                }
                .map(success);
            }
        };
        invocation.ui.out(text).map(success)
    }

    fn value(&self, name: &str, output: &RecordedOutput) -> Result<String, Error> {
        if output.sensitive {
            return Err(Error::usage(
                format!("cannot print the output `{name}`: sensitive values are not stored"),
                "read the value from the object that the manifest writes it to, such as a file or a Secret",
            ));
        }
        if self.json {
            return Ok(format!("{:#}\n", output.value));
        }
        match (&output.value, self.raw) {
            (serde_json::Value::String(text), true) => Ok(text.clone()),
            (value, true) if value.is_object() || value.is_array() => {
                Err(Error::usage(format!("cannot print the output `{name}` raw: it is a list or a map"), "use --json"))
            }
            (value, true) => Ok(value.to_string()),
            (value, false) => Ok(format!("{}\n", inline(value))),
        }
    }
}

fn success((): ()) -> Exit {
    Exit::Success
}

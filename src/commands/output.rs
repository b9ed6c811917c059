//! `moorfast output`

use moorfast_engine::state::Output as Recorded;

use crate::error::Error;
use crate::exit::Exit;
use crate::render::{inline, record};
use crate::session::Session;

/// Print outputs of the last apply.
///
/// Prints outputs of the last apply. Sensitive ones were shown to nobody and are not stored, so they can't be printed.
#[derive(Debug, clap::Args)]
pub struct Output {
    /// Only this one
    name: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print a string, number or bool without quotes and without a newline
    #[arg(long, requires = "name")]
    raw: bool,
}

impl Output {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, Error> {
        let outputs = session.filled(&session.state().await?).await?.outputs;
        let text = match &self.name {
            None if self.json => return session.ui.json(format!("{:#}\n", serde_json::json!(outputs))).map(success),
            None if outputs.is_empty() => {
                session.ui.note("There are no outputs: no apply recorded any.\n");
                String::new()
            }
            None => record::outputs(&outputs),
            Some(name) => {
                let known = || outputs.keys().cloned().collect::<Vec<_>>().join(", ");
                let output = outputs.get(name).ok_or_else(|| {
                    Error::usage(format!("there is no output \"{name}\""), format!("there are: {}", known()))
                })?;
                let text = self.one(name, output)?;
                return match (self.json, self.raw) {
                    (true, _) => session.ui.json(text),
                    (_, true) => session.ui.data(text),
                    _ => session.ui.out(text),
                }
                .map(success);
            }
        };
        session.ui.out(text).map(success)
    }

    fn one(&self, name: &str, output: &Recorded) -> Result<String, Error> {
        if output.sensitive {
            return Err(Error::usage(
                format!("the output \"{name}\" is sensitive: its value is stored nowhere"),
                "read it where the manifest puts it: the node's file, the cluster's Secret",
            ));
        }
        if self.json {
            return Ok(format!("{:#}\n", output.value));
        }
        match (&output.value, self.raw) {
            (serde_json::Value::String(text), true) => Ok(text.clone()),
            (value, true) if value.is_object() || value.is_array() => {
                Err(Error::usage(format!("the output \"{name}\" is a list or a map"), "--json prints it"))
            }
            (value, true) => Ok(value.to_string()),
            (value, false) => Ok(format!("{}\n", inline(value))),
        }
    }
}

fn success((): ()) -> Exit {
    Exit::Success
}

//! The question before anything is changed.

use std::io::BufRead;

use moorfast_engine::session::Interrupt;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::render::style::{BOLD, paint};
use crate::ui::Ui;

/// Asks `question`; only `yes` is a yes.
///
/// # Errors
/// If nobody can answer, or a signal came instead of an answer.
pub async fn approve(ui: &Ui, question: &str, detail: &str, interrupt: &Interrupt) -> Result<bool, Error> {
    let question = paint(BOLD, question);
    ui.err(format!("\n{question}\n  {detail}\n  Only `yes` is taken as a yes.\n\n  {}: ", paint(BOLD, "Answer")));
    let (sender, answer) = oneshot::channel();
    // A thread of its own: one of the runtime's would keep the process from ending while nobody answers.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let _ = sender.send(read.map(|bytes| (bytes > 0).then_some(line)));
    });
    let answer = tokio::select! {
        answer = answer => answer,
        () = interrupt.stop.cancelled() => return Err(Error::Interrupted),
    };
    match answer {
        Ok(Ok(Some(line))) => {
            if !ui.can_ask() {
                ui.err("\n");
            }
            Ok(line.trim() == "yes")
        }
        _ => {
            ui.err("\n");
            Err(Error::usage("nobody answered", "--auto-approve applies without asking; a saved plan needs no answer"))
        }
    }
}

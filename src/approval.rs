//! The question for approval before an apply.

use std::io::BufRead;

use moorfast_engine::session::Interrupt;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::render::text::{Style, Text, styled};
use crate::ui::Ui;

/// Asks `question`. Returns whether the answer is `yes`.
///
/// # Errors
/// If standard input is closed, or a signal interrupts the question.
pub async fn ask(ui: &Ui, question: &str, detail: &str, interrupt: &Interrupt) -> Result<bool, Error> {
    let detail = format!("  {detail}\n  Only `yes` is accepted to approve.\n\n");
    let prompt = (styled(Style::Bold, "Enter a value") + ": ").indented(2);
    ui.ask(Text::from("\n") + styled(Style::Bold, question) + detail + prompt);
    let (sender, answer) = oneshot::channel();
    // A blocking read on a thread of the runtime would prevent the process from exiting.
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
            Err(Error::usage(
                "cannot ask for approval: standard input is closed",
                "add --auto-approve, or apply a saved plan",
            ))
        }
    }
}

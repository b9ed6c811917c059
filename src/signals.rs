//! Ctrl-C, SIGTERM and SIGHUP: the first ends the run gently, the second at once.

use std::io;

use moorfast_engine::Interrupt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::exit::Exit;
use crate::ui::Ui;

/// The person's wish to end the run, from now on taken from the signals of this process.
pub fn listen(ui: Ui) -> Interrupt {
    let interrupt = Interrupt::default();
    // Without handlers a signal ends the process, and the next run finds what was left open.
    if let Ok(signals) = signals() {
        tokio::spawn(obey(signals, interrupt.clone(), ui));
    }
    interrupt
}

/// One message for each signal.
fn signals() -> io::Result<UnboundedReceiver<()>> {
    let (sender, receiver) = unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while signal.recv().await.is_some() && sender.send(()).is_ok() {} });
    }
    Ok(receiver)
}

/// Obeys signals until the process ends; then `signals` ends too, which is none.
async fn obey(mut signals: UnboundedReceiver<()>, interrupt: Interrupt, ui: Ui) -> Option<()> {
    signals.recv().await?;
    interrupt.stop.cancel();
    ui.err("\nInterrupted: nothing more is started, and what runs is finished. Interrupt again to cancel that too.\n");
    signals.recv().await?;
    interrupt.cancel.cancel();
    ui.err("\nCancelling what runs. Once more ends moorfast at once; the next run finds out what was left open.\n");
    signals.recv().await?;
    std::process::exit(Exit::Interrupted.code().into());
}

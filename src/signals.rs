//! Ctrl-C, SIGTERM and SIGHUP: the first ends the run gently, the second at once.

use std::io;

use moorfast_engine::session::Interrupt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exit::Exit;

/// The person's wish to end the run, from now on taken from the signals of this process. `notices` gets what becomes of it.
pub fn listen(notices: UnboundedSender<String>) -> Interrupt {
    let interrupt = Interrupt::default();
    // Without handlers a signal ends the process, and the next run finds what was left open.
    if let Ok(signals) = signals() {
        tokio::spawn(obey(signals, interrupt.clone(), notices));
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
async fn obey(
    mut signals: UnboundedReceiver<()>,
    interrupt: Interrupt,
    notices: UnboundedSender<String>,
) -> Option<()> {
    let notice = |text: &str| drop(notices.send(text.to_owned()));
    signals.recv().await?;
    interrupt.stop.cancel();
    notice("Interrupted: nothing more is started, and what runs is finished. Interrupt again to cancel that too.");
    signals.recv().await?;
    interrupt.cancel.cancel();
    notice("Cancelling what runs. Once more ends moorfast at once; the next run finds out what was left open.");
    signals.recv().await?;
    std::process::exit(Exit::Interrupted.code().into());
}

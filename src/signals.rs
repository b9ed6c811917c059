//! Ctrl-C, SIGTERM and SIGHUP: the first finishes running operations, the second cancels them, the third exits at once.

use std::io;

use moorfast_engine::session::Interrupt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exit::Exit;

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Running operations are finished, and no more are started.
    Stopping,
    /// Running operations are cancelled.
    Cancelling,
}

/// Starts listening for signals, and returns the interrupt that they set. Sends a notice for each signal to `notices`.
pub fn listen(notices: UnboundedSender<Notice>) -> Interrupt {
    let interrupt = Interrupt::default();
    // Without handlers, a signal ends the process, and the next run resolves the unfinished operations.
    if let Ok(signals) = signals() {
        tokio::spawn(handle(signals, interrupt.clone(), notices));
    }
    interrupt
}

/// Runs `reading`, which changes nothing. The first signal interrupts it, and a signal after its end ends the process.
pub async fn interruptible<T>(reading: impl AsyncFnOnce(&Interrupt) -> T) -> T {
    let interrupt = Interrupt::default();
    // Without handlers, a signal ends the process, but not the programs that it started.
    if let Ok(mut signals) = signals() {
        let stop = interrupt.stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if stop.is_cancelled() {
                    std::process::exit(Exit::Interrupted.code().into());
                }
                stop.cancel();
            }
        });
    }
    let result = reading(&interrupt).await;
    interrupt.stop.cancel();
    result
}

/// Returns a stream with one item per signal.
fn signals() -> io::Result<UnboundedReceiver<()>> {
    let (sender, receiver) = unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while signal.recv().await.is_some() && sender.send(()).is_ok() {} });
    }
    Ok(receiver)
}

/// Handles signals until the process ends. Returns `None` when `signals` ends.
async fn handle(
    mut signals: UnboundedReceiver<()>,
    interrupt: Interrupt,
    notices: UnboundedSender<Notice>,
) -> Option<()> {
    // What ends because of the signal prints the notices first, so they must be there by then.
    let notice = |notice| _ = notices.send(notice);
    signals.recv().await?;
    notice(Notice::Stopping);
    interrupt.stop.cancel();
    signals.recv().await?;
    notice(Notice::Cancelling);
    interrupt.cancel.cancel();
    signals.recv().await?;
    std::process::exit(Exit::Interrupted.code().into());
}

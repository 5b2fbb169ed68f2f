//! How a server hears that it is to end.

use tokio::sync::watch::Receiver;

/// Returns when `stopping` becomes true, or its sender is gone.
pub async fn stopped(stopping: &mut Receiver<bool>) {
    // A dropped sender means the end, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

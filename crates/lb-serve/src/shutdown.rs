//! The signal that ends a server.

use tokio::sync::watch::Receiver;

/// Waits until `stopping` becomes true or its sender is dropped.
pub async fn stopped(stopping: &mut Receiver<bool>) {
    // A dropped sender also ends the server.
    let _ = stopping.wait_for(|stop| *stop).await;
}

//! Plain TCP: the bytes of a client's connection go to one instance of a service.

use std::io;

use crate::{clock, http::Client, net::Stream, relay::relay, service::Fault};

/// Serves a connection.
pub async fn serve(stream: Stream, client: &Client) -> io::Result<()> {
    let running = client.shared.running.load_full();
    let name = client.listener.service.as_deref().unwrap_or_default();
    let Some(service) = running.services.get(name) else {
        return Err(io::Error::other(format!("there is no service {name}")));
    };
    let settings = service.settings.load_full();
    let connector = service.connector.load_full();
    let key = crate::http::source_key(client.peer.ip());
    service.count_request();
    let troubles = &client.shared.troubles;
    let mut tried = Vec::new();
    let (lease, instance) = loop {
        let Some(lease) = service.choose(key, &tried) else {
            service
                .unserved
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Err(io::Error::other(format!("service {name} has no instance")));
        };
        lease.instance().count_request();
        let started = clock::now();
        match connector
            .open(lease.instance(), (client.peer, client.local), troubles)
            .await
        {
            Ok(stream) => {
                lease
                    .instance()
                    .answered(clock::now().saturating_sub(started));
                lease.instance().succeeded();
                break (lease, stream);
            }
            Err(error) => {
                if !error.is_own(troubles) {
                    service.note_failure(lease.instance(), Fault::Connect);
                }
                tried.push(lease.instance().id);
                // Nothing of the client's was sent, so another instance is as good.
                if tried.len() > settings.retries as usize || !service.may_retry() {
                    return Err(io::Error::other(error));
                }
            }
        }
    };
    drop(running);
    // A connection whose protocol is unknown cannot be asked to end: it goes on until the proxy ends.
    let ended = relay(stream, instance, settings.pause_timeout).await;
    drop(lease);
    ended.map(|_| ())
}

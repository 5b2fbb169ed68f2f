//! Connections to what probes and readers ask: bounded in time and size, over TCP or TLS.

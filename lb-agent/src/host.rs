//! `lb-agent host`: this machine runs instances for a controller elsewhere. `lb_hosts` does the work.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use lb_drivers::Owned;
use lb_hosts::{
    dial,
    identity::{Identity, IdentityError},
    server::{HostServer, Room, Word},
    token::Token,
};
use lb_model::{duration, host::HostName};
use lb_serve::{
    vital::{End, Vital},
    watchdog::{Watchdog, beat},
};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::hangup::Hangup;

// The host's vital parts: see `lb_serve::vital`.
const CONNECTION: &str = "the task that serves drivers to the controller";
const CERTIFICATE: &str = "the task that renews the host's certificate";
const RUNTIME: &str = "the runtime, which runs all tasks,";

/// What a host is, and whose.
#[derive(Debug)]
pub struct Options {
    /// Its folder.
    pub state: PathBuf,
    /// The token to join by.
    pub join: Option<Token>,
    /// Where the controller is: HOST:PORT.
    pub controller: Option<String>,
    /// Its name, if it has not joined yet.
    pub name: Option<HostName>,
    /// What it has for instances.
    pub room: Room,
    /// Whether the driver `exec` may run programs.
    pub exec_drivers: bool,
    /// Where it receives instances that move here while they run.
    pub receive_at: Option<IpAddr>,
    /// How long a vital part may make no progress.
    pub watchdog: Duration,
}

/// The host's name, if its operator gives none.
fn own_name() -> anyhow::Result<HostName> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("reading the name of this machine")?;
    let first = text.trim().split('.').next().unwrap_or_default();
    first
        .to_lowercase()
        .parse()
        .with_context(|| format!("{first:?}, the name of this machine; give --name"))
}

/// Who this host is: by its folder, or by joining a controller.
async fn identify(options: &Options) -> anyhow::Result<Identity> {
    let known = Identity::open(&options.state);
    if let (Some(token), address) = (&options.join, &options.controller) {
        let name = match (&options.name, &known) {
            (Some(name), _) => name.clone(),
            (None, Ok(known)) => known.name.clone(),
            (None, Err(_)) => own_name()?,
        };
        let address = match (address, &known) {
            (Some(address), _) => address.clone(),
            (None, Ok(known)) => known.address.clone(),
            (None, Err(_)) => bail!("--join needs --controller HOST:PORT"),
        };
        return match (
            dial::join(&options.state, &address, token, &name).await,
            known,
        ) {
            (Ok(identity), _) => {
                tracing::info!(
                    "joined the controller {} as {}",
                    identity.controller,
                    identity.name
                );
                Ok(identity)
            }
            // The service's command line may have the token for ever.
            (Err(error), Ok(known)) if !known.left().is_zero() => {
                tracing::warn!(
                    "{error}; this machine goes on as {} of {}",
                    known.name,
                    known.controller
                );
                Ok(known)
            }
            (Err(error), _) => Err(error).context("joining"),
        };
    }
    let mut known = match known {
        Err(IdentityError::NotJoined(folder)) => {
            return Err(IdentityError::NotJoined(folder).into());
        }
        other => other?,
    };
    if options
        .name
        .as_ref()
        .is_some_and(|name| *name != known.name)
    {
        bail!(
            "--name: this machine joined as {}; remove that host, and join again with a new token",
            known.name
        );
    }
    if let Some(address) = &options.controller {
        known.address.clone_from(address);
    }
    Ok(known)
}

/// Serves this machine's drivers until SIGTERM, SIGINT or SIGHUP. Instances run on.
///
/// # Errors
/// It cannot join, the controller refuses it, or a vital part ends by itself or hangs.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut hangup = Hangup::new().context("waiting for SIGHUP")?;
    let identity = identify(&options).await?;
    let owned = Owned {
        // Not the controller's name alone: it may run on this machine, too, with drivers of its own.
        owner: format!("{}@{}", identity.controller, identity.name),
        state: options.state.clone(),
        agent: std::env::current_exe().context("looking for the own program")?,
        allow_exec: options.exec_drivers,
        receive_at: options.receive_at,
    };
    let shown = format!(
        "{} of {} at {}",
        identity.name, identity.controller, identity.address
    );
    let server = HostServer::new(&identity, options.state.clone(), owned, options.room);
    let mut word = server.word();
    tracing::info!(
        "the certificate lasts {}",
        duration::format(Duration::from_secs(identity.left().as_secs()))
    );
    let (identities, present) = watch::channel(Arc::new(identity));
    let mut vital = Vital::new();
    vital.spawn(CONNECTION, dial::serve(present, server));
    vital.spawn(CERTIFICATE, dial::keep_certificate(identities));
    let runtime = Arc::default();
    let watchdog = Watchdog::new("lb-agent host", options.watchdog).watch(
        RUNTIME,
        Arc::clone(&runtime),
        || {},
    );
    watchdog.start(&vital).context("starting a thread")?;
    vital.spawn(RUNTIME, beat(runtime));

    let mut is_ready = false;
    loop {
        tokio::select! {
            changed = word.changed() => {
                changed.context("the task that serves drivers is gone")?;
                let said = word.borrow_and_update().clone();
                match said {
                    Word::Welcome if !is_ready => {
                        is_ready = true;
                        println!("lb-agent host: ready as {shown}");
                        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
                            tracing::warn!("telling the service manager that the host is ready: {error}");
                        }
                    }
                    Word::Refused(why) if !is_ready => bail!("the controller refuses this host: {why}"),
                    Word::Refused(why) => tracing::error!("the controller refuses this host: {why}"),
                    Word::Welcome | Word::Nothing => {}
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = hangup.recv() => break,
            end = vital.next_end() => return Err(fail(end)),
        }
    }
    tracing::info!("stopping; instances run on");
    // Without a service manager nobody listens.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    Ok(())
}

/// Why the host ends, for its operator and its service manager.
fn fail(end: End) -> anyhow::Error {
    // There may be no service manager.
    let _ = sd_notify::notify(&[NotifyState::Status(&format!(
        "{end}; the host's program ends"
    ))]);
    end.into_error()
        .context("the host's program ends (instances run on; start it again)")
}

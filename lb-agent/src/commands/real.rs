//! `lb-agent real`.

use anyhow::Context as _;

pub fn execute(options: lb_agent::real::Options) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(lb_agent::real::run(options))
}

//! `lb-agent real`.

use anyhow::Context as _;

pub fn execute(options: lb_dataplane::real::Options) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(lb_dataplane::real::run(options))
}

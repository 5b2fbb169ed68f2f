//! The controller's store in Redis.

use anyhow::ensure;
use lb_tests::{server::Redis, wait_for};

use crate::fixture::{Controller, PATIENCE, port};

pub fn everything_is_written_again_when_redis_restarts_empty() -> anyhow::Result<()> {
    let mut redis = Redis::start(&[])?;
    let url = format!("redis:{}", redis.url());
    let mut controller = Controller::start("redis", &["--store", &url])?;
    let port = port();
    controller.add_web("web", port, &["scaling.min=2", "scaling.max=4"])?;
    controller.wait_serving("web", 2)?;
    let key = format!("{{lb:{}}}:table:pools", controller.name);
    ensure!(redis.command(&["HLEN", &key])? == "1");
    // While it is away pools go on, and settings cannot be changed.
    redis.kill()?;
    let error = controller
        .pool(&["scale", "web", "3"])
        .unwrap_err()
        .to_string();
    ensure!(error.contains("nothing was changed"), "{error}");
    controller.wait_serving("web", 2)?;
    // It comes back with nothing.
    redis.run()?;
    wait_for("everything to be written again", PATIENCE, || {
        ensure!(redis.command(&["HLEN", &key])? == "1");
        Ok(Some(()))
    })?;
    controller.pool(&["scale", "web", "3"])?;
    controller.wait_serving("web", 3)?;
    let before = controller.running();
    controller.kill()?;
    controller.run()?;
    controller.wait_serving("web", 3)?;
    ensure!(
        controller.running() == before,
        "the same instances were adopted"
    );
    controller.check()
}

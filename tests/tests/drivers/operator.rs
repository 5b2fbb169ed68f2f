//! The program that the tests of the driver `exec` run: it operates processes, by the driver `process`.
//!
//! It is this test binary itself, started with `operator FOLDER`.

use std::{io::Read as _, time::Duration};

use anyhow::Context as _;
use lb_drivers::{
    Command, Driver as _, DriverError, ErrorCode, Owned,
    process::{ProcessDriver, Settings},
};
use lb_model::pool::{InstanceName, Launch};
use serde_json::{Value, json};

/// The word on the command line.
pub const WORD: &str = "operator";

/// Answers one request.
pub fn run(folder: &str) -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let request: Value = serde_json::from_str(&text)?;
    let owner = request["owner"].as_str().context("no owner")?.to_owned();
    let owned = Owned {
        state: std::path::Path::new(folder).join(&owner),
        owner,
        agent: "/there/is/none".into(),
        allow_exec: false,
        receive_at: None,
    };
    let answer = crate::process::runtime()?.block_on(answer(&request, &owned))?;
    println!("{answer}");
    Ok(())
}

async fn answer(request: &Value, owned: &Owned) -> anyhow::Result<Value> {
    // A call that was dropped may not have ended yet.
    let driver = lb_tests::wait_for("the folder", Duration::from_secs(30), || {
        Ok(Some(ProcessDriver::open(&Settings {}, owned)?))
    })?;
    let result = call(request, &driver).await;
    Ok(match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => {
            let code = match error.code() {
                ErrorCode::NotFound => "not_found",
                ErrorCode::NoRoom => "no_room",
                ErrorCode::Invalid => "invalid",
                _ => "failed",
            };
            json!({ "error": { "code": code, "text": error.to_string() } })
        }
    })
}

async fn call(request: &Value, driver: &ProcessDriver) -> Result<Value, DriverError> {
    let name = || -> InstanceName { serde_json::from_value(request["name"].clone()).unwrap() };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let done = |()| Value::Null;
    match request["call"].as_str().unwrap() {
        "list" => Ok(json!({
            "instances": driver.list().await?,
            "capabilities": { "pause": true, "exec": true, "logs": true },
        })),
        "create" => {
            let launch: Launch = serde_json::from_value(request["launch"].clone()).unwrap();
            driver.create(&launch).await.map(done)
        }
        "start" => driver.start(&name()).await.map(done),
        "stop" => {
            let grace = Duration::from_secs_f64(request["grace_seconds"].as_f64().unwrap());
            driver.stop(&name(), grace).await.map(done)
        }
        "remove" => driver.remove(&name()).await.map(done),
        "pause" => driver.pause(&name()).await.map(done),
        "resume" => driver.resume(&name()).await.map(done),
        "exec" => {
            let command = Command {
                words: serde_json::from_value(request["words"].clone()).unwrap(),
                input: request["input"].as_str().unwrap().into(),
            };
            let output = driver.exec(&name(), &command).await?;
            Ok(json!({
                "status": output.status, "stdout": text(output.stdout), "stderr": text(output.stderr),
            }))
        }
        "logs" => {
            let most = usize::try_from(request["most"].as_u64().unwrap()).unwrap();
            Ok(json!({ "text": text(driver.logs(&name(), most).await?) }))
        }
        other => panic!("an unknown call: {other}"),
    }
}

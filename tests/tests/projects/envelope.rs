//! Orders in the envelope, as they are typed with `curl`.

use anyhow::ensure;
use lb_tests::wait_for;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE};

/// Sends an order, and checks that it is answered as one that is followed, or not, is.
pub fn answered(bed: &Bed, status: u16, order: Value) -> anyhow::Result<Value> {
    let (found, answer) = bed.order(&order)?;
    ensure!(found == status, "{order}: {found}: {answer}");
    let is_good = (200..300).contains(&status);
    let word = if is_good { "successful" } else { "fail" };
    ensure!(answer["status"] == word, "{order}: {answer}");
    if !is_good {
        let text = answer["info"]["error"].as_str().unwrap_or_default();
        ensure!(text.len() > 5, "{order}: {answer}");
    }
    for field in ["action", "type"] {
        let same = answer[field] == order[field] || answer[field].is_null();
        ensure!(same, "{order}: {answer}");
    }
    Ok(answer["info"].clone())
}

pub fn the_envelope_is_answered_as_asked() -> anyhow::Result<()> {
    let bed = Bed::new("envelope", 2)?;
    let [one, two] = [0, 1].map(|at| bed.backends()[at].clone());
    let info = answered(
        &bed,
        201,
        json!({ "action": "create", "type": "project", "info": { "name": "example" } }),
    )?;
    ensure!(
        info["id"] == 1 && info["name"] == "example" && info["instances"] == json!([]),
        "{info}"
    );
    let instance = json!({
        "action": "create",
        "type": "instance",
        "info": {
            "project": "example",
            "name": "www",
            "type": "http",
            "backends": {
                "entitys": [[one], [two]],
                "health-check": {
                    "protocol": "HTTP",
                    "port": 80,
                    "request-path": "/",
                    "criteria": { "interval": 1, "timeout": 1, "health-threshold": 1, "unhealth-threshold": 2 },
                },
                "auto-scaling": false,
            },
        },
    });
    let info = answered(&bed, 201, instance)?;
    ensure!(
        info["id"] == 2 && info["backend"]["entitys"] == json!([one, two]),
        "{info}"
    );
    let get = json!({ "action": "info", "type": "instance", "info": { "id": 2 } });
    let url = wait_for("a URL", PATIENCE, || {
        // By GET with a body, as well.
        let (_, answer) = bed.http("GET", "/v1/requests", Some(&get.to_string()))?;
        ensure!(answer["info"]["state"] == "serving", "{answer}");
        Ok(answer["info"]["url"].as_str().map(str::to_owned))
    })?;
    ensure!(url == "http://10.10.60.11/", "{url}");
    bed.wait_answers("10.10.60.11", 80, &[&bed.servers[0].0, &bed.servers[1].0])?;
    let update = json!({
        "action": "update", "type": "instance",
        "info": { "id": 2, "backend": { "entitys": [two] } },
    });
    let info = answered(&bed, 200, update)?;
    ensure!(
        info["backend"]["health-check"]["port"] == 80,
        "what is not named stays: {info}"
    );
    bed.wait_answers("10.10.60.11", 80, &[&bed.servers[1].0])?;
    let info = answered(
        &bed,
        200,
        json!({ "action": "info", "type": "project", "info": { "name": "example" } }),
    )?;
    ensure!(
        info["instances"] == json!([{ "id": 2, "name": "www" }]),
        "{info}"
    );
    let info = answered(
        &bed,
        200,
        json!({ "action": "update", "type": "project", "info": { "id": 1, "description": "ours" } }),
    )?;
    ensure!(info["description"] == "ours", "{info}");
    let info = answered(
        &bed,
        200,
        json!({ "action": "info", "type": "instance", "info": { "project": 1 } }),
    )?;
    ensure!(info["instances"][0]["name"] == "www", "{info}");
    // The same objects as REST.
    let (status, project) = bed.http("GET", "/v1/projects/example", None)?;
    ensure!(status == 200 && project["id"] == 1, "{project}");
    let path = "/v1/projects/example/balancers/www";
    let (status, balancer) = bed.http("GET", path, None)?;
    ensure!(
        status == 200 && balancer["conditions"][0]["kind"] == "serving",
        "{balancer}"
    );
    let (status, balancer) = bed.http("PATCH", path, Some(r#"{"description": "x"}"#))?;
    ensure!(status == 200 && balancer["generation"] == 3, "{balancer}");
    let (status, balancer) = bed.http(
        "PUT",
        path,
        Some(r#"{"backends": [{"address": "web.example"}]}"#),
    )?;
    ensure!(
        status == 200 && balancer["settings"].get("description").is_none(),
        "{balancer}"
    );
    let (status, list) = bed.http("GET", "/v1/balancers", None)?;
    ensure!(
        status == 200 && list["balancers"].as_array().unwrap().len() == 1,
        "{list}"
    );
    answered(
        &bed,
        409,
        json!({ "action": "delete", "type": "project", "info": { "id": 1 } }),
    )?;
    answered(
        &bed,
        200,
        json!({ "action": "delete", "type": "instance", "info": { "id": 2 } }),
    )?;
    wait_for("the instance to be gone", PATIENCE, || {
        let (status, answer) = bed.order(&get)?;
        ensure!(status == 404, "{answer}");
        Ok(Some(()))
    })?;
    answered(
        &bed,
        200,
        json!({ "action": "delete", "type": "project", "info": { "id": 1 } }),
    )?;
    answered(
        &bed,
        404,
        json!({ "action": "info", "type": "project", "info": { "id": 1 } }),
    )?;
    Ok(())
}

pub fn a_subnet_is_ordered_in_the_envelope() -> anyhow::Result<()> {
    let bed = Bed::new("subnets", 0)?;
    let order = |action: &str, kind: &str, info: Value| json!({ "action": action, "type": kind, "info": info });
    answered(
        &bed,
        201,
        order("create", "project", json!({ "name": "example" })),
    )?;
    let subnet = json!({ "project": "example", "name": "back", "cidr": "10.0.0.0/24" });
    let info = answered(&bed, 201, order("create", "subnet", subnet))?;
    ensure!(
        info["id"] == 2 && info["cidr"] == "10.0.0.0/24" && info["project"] == "example",
        "{info}"
    );
    let www = json!({ "project": 1, "name": "www", "subnet": "back", "backend": { "entitys": ["10.0.0.11"] } });
    let info = answered(&bed, 201, order("create", "instance", www))?;
    ensure!(info["id"] == 3 && info["subnet"] == "back", "{info}");
    let info = answered(
        &bed,
        200,
        order(
            "info",
            "subnet",
            json!({ "project": "example", "name": "back" }),
        ),
    )?;
    ensure!(
        info["instances"]
            == json!([{ "id": 3, "name": "www", "addresses": "10.0.0.128-10.0.0.129/24" }]),
        "{info}"
    );
    wait_for("the subnet to be ready", PATIENCE, || {
        let info = answered(&bed, 200, order("info", "subnet", json!({ "id": 2 })))?;
        ensure!(info["state"] == "ready", "{info}");
        Ok(Some(()))
    })?;
    let info = answered(&bed, 200, order("info", "project", json!({ "id": 1 })))?;
    ensure!(
        info["subnets"] == json!([{ "id": 2, "name": "back" }]),
        "{info}"
    );
    let info = answered(
        &bed,
        200,
        order(
            "update",
            "subnet",
            json!({ "id": 2, "description": "ours" }),
        ),
    )?;
    ensure!(
        info["description"] == "ours" && info["cidr"] == "10.0.0.0/24",
        "{info}"
    );
    let info = answered(&bed, 200, order("info", "subnet", json!({})))?;
    ensure!(info["subnets"][0]["id"] == 2, "{info}");
    let info = answered(&bed, 409, order("delete", "subnet", json!({ "id": 2 })))?;
    let text = info["error"].as_str().unwrap_or_default();
    ensure!(
        text.contains("the load balancers www are in the subnet back"),
        "{info}"
    );
    answered(&bed, 200, order("delete", "instance", json!({ "id": 3 })))?;
    answered(&bed, 200, order("delete", "subnet", json!({ "id": 2 })))?;
    wait_for("the subnet to be gone", PATIENCE, || {
        let (status, answer) = bed.order(&order("info", "subnet", json!({ "id": 2 })))?;
        ensure!(status == 404, "{answer}");
        Ok(Some(()))
    })?;
    Ok(())
}

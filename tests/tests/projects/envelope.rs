//! Orders in the envelope, as they are typed with `curl`.

use anyhow::ensure;
use lb_tests::wait_for;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE};

fn answered(bed: &Bed, status: u16, order: Value) -> anyhow::Result<Value> {
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

pub fn wrong_orders_change_nothing() -> anyhow::Result<()> {
    let bed = Bed::new("wrong", 1)?;
    for name in ["example", "other"] {
        answered(
            &bed,
            201,
            json!({ "action": "create", "type": "project", "info": { "name": name, "quota": { "nodes": 2 } } }),
        )?;
    }
    let www =
        json!({ "project": "example", "name": "www", "backend": { "entitys": ["192.0.2.1"] } });
    answered(
        &bed,
        201,
        json!({ "action": "create", "type": "instance", "info": www }),
    )?;
    // Without what is seen, which changes by itself.
    let stored = || -> anyhow::Result<Vec<Value>> {
        let (_, projects) = bed.http("GET", "/v1/projects", None)?;
        let (_, balancers) = bed.http("GET", "/v1/balancers", None)?;
        let balancers = balancers["balancers"].as_array().unwrap().iter();
        let balancers = balancers.map(|one| {
            json!([
                one["id"],
                one["name"],
                one["settings"],
                one["generation"],
                one["deleting"]
            ])
        });
        Ok(std::iter::once(projects).chain(balancers).collect())
    };
    let before = stored()?;
    let create = |info: Value| json!({ "action": "create", "type": "instance", "info": info });
    let backend = |backend: Value| create(json!({ "project": 1, "name": "x", "backend": backend }));
    let check = |check: Value| backend(json!({ "entitys": ["192.0.2.1"], "health-check": check }));
    for (status, field, order) in [
        (422, "", json!([])),
        (422, "", json!("create")),
        (422, "action", json!({})),
        (
            422,
            "action",
            json!({ "action": "destroy", "type": "project", "info": {} }),
        ),
        (
            422,
            "action",
            json!({ "action": 7, "type": "project", "info": {} }),
        ),
        (422, "type", json!({ "action": "create", "info": {} })),
        (
            422,
            "type",
            json!({ "action": "create", "type": "router", "info": {} }),
        ),
        (
            422,
            "info",
            json!({ "action": "create", "type": "project" }),
        ),
        (
            422,
            "info",
            json!({ "action": "create", "type": "project", "info": [] }),
        ),
        (
            422,
            "colour",
            json!({ "action": "create", "type": "project", "info": {}, "colour": 1 }),
        ),
        (
            422,
            "name",
            json!({ "action": "create", "type": "project", "info": {} }),
        ),
        (
            422,
            "name",
            json!({ "action": "create", "type": "project", "info": { "name": 7 } }),
        ),
        (
            422,
            "name",
            json!({ "action": "create", "type": "project", "info": { "name": "a b" } }),
        ),
        (
            422,
            "name",
            json!({ "action": "create", "type": "project", "info": { "name": "a".repeat(64) } }),
        ),
        (
            422,
            "colour",
            json!({ "action": "create", "type": "project", "info": { "name": "x", "colour": 1 } }),
        ),
        (
            422,
            "quota.nodes",
            json!({ "action": "create", "type": "project", "info": { "name": "x", "quota": { "nodes": -1 } } }),
        ),
        (
            409,
            "",
            json!({ "action": "create", "type": "project", "info": { "name": "example" } }),
        ),
        (
            404,
            "",
            json!({ "action": "info", "type": "project", "info": { "id": 99 } }),
        ),
        (
            404,
            "",
            json!({ "action": "info", "type": "project", "info": { "name": "nobody" } }),
        ),
        (
            422,
            "id",
            json!({ "action": "info", "type": "project", "info": { "id": "example" } }),
        ),
        (
            422,
            "id",
            json!({ "action": "info", "type": "project", "info": { "id": 1.5 } }),
        ),
        (
            422,
            "name",
            json!({ "action": "update", "type": "project", "info": { "id": 1, "name": "renamed" } }),
        ),
        (
            422,
            "id",
            json!({ "action": "update", "type": "project", "info": { "quota": {} } }),
        ),
        (
            422,
            "id",
            json!({ "action": "delete", "type": "project", "info": {} }),
        ),
        (
            403,
            "",
            json!({ "action": "update", "type": "project", "info": { "id": 1, "quota": { "balancers": 0 } } }),
        ),
        (
            409,
            "",
            json!({ "action": "delete", "type": "project", "info": { "id": 1 } }),
        ),
        (
            422,
            "everything",
            json!({ "action": "delete", "type": "project", "info": { "id": 1, "everything": "yes" } }),
        ),
        (422, "project", create(json!({ "name": "x" }))),
        (404, "", create(json!({ "project": 99, "name": "x" }))),
        (422, "name", create(json!({ "project": 1 }))),
        (409, "", create(json!({ "project": 1, "name": "www" }))),
        (
            403,
            "",
            create(json!({ "project": 1, "name": "x", "nodes": 2 })),
        ),
        (
            422,
            "nodes",
            create(json!({ "project": 2, "name": "x", "nodes": 3 })),
        ),
        (
            422,
            "type",
            create(json!({ "project": 1, "name": "x", "type": "smtp" })),
        ),
        (
            422,
            "port",
            create(json!({ "project": 1, "name": "x", "port": 0 })),
        ),
        (
            422,
            "colour",
            create(json!({ "project": 1, "name": "x", "colour": 1 })),
        ),
        (
            422,
            "backend.entitys[0]",
            backend(json!({ "entitys": ["10.0.0.256"] })),
        ),
        (
            422,
            "backend.entitys[1]",
            backend(json!({ "entitys": ["192.0.2.1", "192.0.2.1"] })),
        ),
        (
            422,
            "backend.auto-scaling",
            backend(json!({ "auto-scaling": "perhaps" })),
        ),
        (
            422,
            "backend.health-check.protocol",
            check(json!({ "protocol": "ICMP" })),
        ),
        (
            422,
            "backend.health-check.criteria.timeout",
            check(json!({ "criteria": { "interval": 1, "timeout": 2 } })),
        ),
        (
            404,
            "",
            json!({ "action": "info", "type": "instance", "info": { "project": 2, "name": "www" } }),
        ),
        (
            404,
            "",
            json!({ "action": "delete", "type": "instance", "info": { "project": 2, "id": 3 } }),
        ),
        (
            422,
            "project",
            json!({ "action": "delete", "type": "instance", "info": { "name": "www" } }),
        ),
        (
            422,
            "force",
            json!({ "action": "delete", "type": "instance", "info": { "id": 3, "force": true } }),
        ),
        (
            404,
            "id",
            json!({ "action": "delete", "type": "instance", "info": { "id": 1 } }),
        ),
    ] {
        let info = answered(&bed, status, order.clone())?;
        ensure!(
            info["field"].as_str().unwrap_or_default() == field,
            "{order}: {info}"
        );
        ensure!(stored()? == before, "{order}");
    }
    let (status, answer) = bed.http("POST", "/v1/requests", Some("{"))?;
    ensure!(status == 400 && answer["status"] == "fail", "{answer}");
    let (status, _) = bed.http("DELETE", "/v1/requests", None)?;
    ensure!(status == 405, "{status}");
    // One byte more than a body may have.
    let (status, _) = bed.http("POST", "/v1/requests", Some(&" ".repeat((256 << 10) + 1)))?;
    ensure!(status == 413, "{status}");
    ensure!(stored()? == before, "nothing changes");
    Ok(())
}

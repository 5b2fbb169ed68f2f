//! Wrong orders in the envelope: each is a clear failure, and nothing changes.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{bed::Bed, envelope::answered};

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
    let back = json!({ "project": "example", "name": "back", "cidr": "10.0.0.0/24" });
    answered(
        &bed,
        201,
        json!({ "action": "create", "type": "subnet", "info": back }),
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
        let (_, subnets) = bed.http("GET", "/v1/subnets", None)?;
        let subnets = subnets["subnets"].as_array().unwrap().iter();
        let subnets = subnets.map(|one| {
            json!([
                one["id"],
                one["name"],
                one["settings"],
                one["generation"],
                one["deleting"],
                one["leases"]
            ])
        });
        Ok(std::iter::once(projects)
            .chain(balancers)
            .chain(subnets)
            .collect())
    };
    let before = stored()?;
    let subnet = |info: Value| {
        let mut all = json!({ "project": 1, "name": "front", "cidr": "10.1.0.0/24" });
        all.as_object_mut()
            .unwrap()
            .extend(info.as_object().unwrap().clone());
        json!({ "action": "create", "type": "subnet", "info": all })
    };
    let of_subnet =
        |action: &str, info: Value| json!({ "action": action, "type": "subnet", "info": info });
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
        (422, "project", of_subnet("create", json!({ "name": "x" }))),
        (404, "", subnet(json!({ "project": 99 }))),
        (422, "name", subnet(json!({ "name": "a b" }))),
        (409, "", subnet(json!({ "name": "back" }))),
        (
            422,
            "cidr",
            of_subnet("create", json!({ "project": 1, "name": "front" })),
        ),
        (422, "cidr", subnet(json!({ "cidr": "ten" }))),
        (422, "cidr", subnet(json!({ "cidr": "10.0.0.0/16" }))),
        (422, "cidr", subnet(json!({ "cidr": "10.1.0.0/30" }))),
        (422, "gateway", subnet(json!({ "gateway": "10.2.0.1" }))),
        (
            422,
            "range",
            subnet(json!({ "range": "10.1.0.9-10.1.1.9/24" })),
        ),
        (422, "mtu", subnet(json!({ "mtu": 1 }))),
        (422, "vxlan.id", subnet(json!({ "vxlan": { "id": 0 } }))),
        (
            422,
            "vxlan.peers[0]",
            subnet(json!({ "vxlan": { "id": 1, "peers": ["10.0.0"] } })),
        ),
        (422, "colour", subnet(json!({ "colour": 1 }))),
        (404, "id", of_subnet("info", json!({ "id": 3 }))),
        (404, "", of_subnet("info", json!({ "project": 2, "id": 4 }))),
        (
            422,
            "project",
            of_subnet("delete", json!({ "name": "back" })),
        ),
        (
            422,
            "cidr",
            of_subnet("update", json!({ "id": 4, "cidr": "10.1.0.0/24" })),
        ),
        (
            422,
            "everything",
            of_subnet("delete", json!({ "id": 4, "everything": 1 })),
        ),
        (
            422,
            "subnet",
            create(json!({ "project": 1, "name": "x", "subnet": "nowhere" })),
        ),
        (
            422,
            "subnet",
            create(json!({ "project": 2, "name": "x", "subnet": "back" })),
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

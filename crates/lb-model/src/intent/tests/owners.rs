//! Objects of other owners, and revisions.

use super::*;

fn file() -> Writer {
    Writer::of(Owner::File)
}

fn forcing(owner: Owner) -> Writer {
    Writer {
        force: true,
        ..Writer::of(owner)
    }
}

fn apply_by(intent: &mut Intent, writer: &Writer, change: &Change) -> Result<(), Refusal> {
    let vip = change.apply(intent, writer, &KINDS)?;
    intent.replace(*change.vip(), vip);
    Ok(())
}

fn update_real(id: &str, patch: Patch) -> Change {
    Change::UpdateReal {
        vip: name(V4),
        real: real(id),
        patch,
    }
}

fn delete_real(id: &str) -> Change {
    Change::DeleteReal {
        vip: name(V4),
        real: real(id),
    }
}

fn delete_vip(vip: &str) -> Change {
    Change::DeleteVip { vip: name(vip) }
}

/// A VIP of the file with a real of the file and one of the API.
fn shared() -> Intent {
    let mut intent = Intent::default();
    apply_by(&mut intent, &file(), &add_vip(name(V4), Patch::new())).unwrap();
    apply_by(&mut intent, &file(), &add_real(V4, "10.1.0.2")).unwrap();
    apply(&mut intent, &add_real(V4, "10.1.0.3")).unwrap();
    intent
}

#[test]
fn an_object_belongs_to_the_one_that_added_it() {
    let intent = shared();
    let vip = intent.get(&name(V4)).unwrap();
    assert_eq!(vip.owner, Owner::File);
    let owner = |id: &str| vip.reals[&real(id)].owner.clone();
    assert_eq!(
        (owner("10.1.0.2"), owner("10.1.0.3")),
        (Owner::File, Owner::Api)
    );
}

#[test]
fn objects_of_another_owner_are_not_changed() {
    for change in [
        update_vip(name(V4), window("1m")),
        update_real("10.1.0.2", weighted(1)),
        delete_real("10.1.0.2"),
        delete_vip(V4),
    ] {
        let refusal = apply(&mut shared(), &change).unwrap_err();
        assert!(
            matches!(
                &refusal,
                Refusal::OtherOwner {
                    owner: Owner::File,
                    ..
                }
            ),
            "{}: {refusal}",
            change.name()
        );
        assert!(refusal.to_string().contains("--force"), "{refusal}");
    }
    // The file's VIP holds a real of the API: it is not deleted with it.
    let refusal = apply_by(&mut shared(), &file(), &delete_vip(V4)).unwrap_err();
    assert!(
        refusal.to_string().contains("real 10.1.0.3 of VIP"),
        "{refusal}"
    );
    // Its own objects it may change.
    let mut intent = shared();
    apply(&mut intent, &update_real("10.1.0.3", weighted(1))).unwrap();
    apply(&mut intent, &delete_real("10.1.0.3")).unwrap();
    apply_by(&mut intent, &file(), &delete_vip(V4)).unwrap();
}

#[test]
fn force_takes_an_object_over() {
    let mut intent = shared();
    let api = forcing(Owner::Api);
    apply_by(&mut intent, &api, &update_real("10.1.0.2", weighted(1))).unwrap();
    apply_by(&mut intent, &api, &update_vip(name(V4), window("1m"))).unwrap();
    let vip = intent.get(&name(V4)).unwrap();
    assert_eq!(vip.owner, Owner::Api);
    assert_eq!(vip.reals[&real("10.1.0.2")].owner, Owner::Api);
    // Now it is the file that may not.
    let refused = apply_by(&mut intent, &file(), &update_vip(name(V4), window("2m")));
    assert!(matches!(refused, Err(Refusal::OtherOwner { .. })));
    apply_by(&mut shared(), &api, &delete_vip(V4)).unwrap();
}

#[test]
fn a_vip_that_has_changed_since_is_not_changed() {
    let mut intent = shared();
    let mut vip = Vip::clone(intent.get(&name(V4)).unwrap());
    vip.revision = 7;
    intent.replace(vip.address, Some(std::sync::Arc::new(vip)));
    let expecting = |expected_revision| Writer {
        expected_revision,
        ..file()
    };
    for change in [
        update_vip(name(V4), window("1m")),
        delete_vip(V4),
        add_real(V4, "10.1.0.4"),
        update_real("10.1.0.2", weighted(1)),
        delete_real("10.1.0.2"),
    ] {
        let refusal = change.apply(&intent, &expecting(6), &KINDS).unwrap_err();
        let expected = Refusal::OtherRevision {
            vip: name(V4),
            expected: 6,
            found: 7,
        };
        assert_eq!(refusal, expected, "{}", change.name());
    }
    let change = update_vip(name(V4), window("1m"));
    let changed = change.apply(&intent, &expecting(7), &KINDS).unwrap();
    assert_eq!(
        changed.unwrap().revision,
        7,
        "the owner of the store counts"
    );
}

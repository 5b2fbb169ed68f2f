//! What others take away: interfaces, tables, addresses.

use lb_dataplane::InterfaceStatus;

use super::*;

fn interface(attached: bool) -> InterfaceStatus {
    InterfaceStatus {
        name: "eth7".into(),
        index: 7,
        attached,
        native: attached,
        warning: if attached {
            String::new()
        } else {
            "the interface is gone".into()
        },
    }
}

#[tokio::test]
async fn watchers_are_told_of_interfaces_and_foreign_changes() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    // A watcher of one VIP is concerned, too.
    let mut watching = owner.0.watch(Some(name(A)), None).await.unwrap();
    for attached in [false, true] {
        plane.tables().changed_links.push(interface(attached));
        owner.0.check_links().await;
        let event = watching.events.recv().await.unwrap();
        assert_eq!(event.vip, None);
        let What::InterfaceChanged(reported) = event.what else {
            panic!("{event:?}")
        };
        assert_eq!(reported, interface(attached));
        assert_eq!(event.cause.contains("gone"), !attached, "{}", event.cause);
    }
    plane.tables().foreign_changes = Some("VIP X is missing".into());
    // It is reported once.
    for _ in 0..3 {
        owner.0.tick();
    }
    let event = watching.events.recv().await.unwrap();
    assert!(matches!(event.what, What::Notice), "{event:?}");
    assert_eq!(&*event.cause, "VIP X is missing");
    plane.tables().foreign_changes = None;
    owner.0.tick();
    let event = watching.events.recv().await.unwrap();
    assert!(event.cause.contains("again what this agent"), "{event:?}");
    end(owner).await;
}

/// Address of the host.
const OWN: &str = "10.1.0.9";

fn own(plane: &Recorder, is_own: bool) {
    let own = &mut plane.tables().own;
    own.clear();
    own.extend(is_own.then(|| OWN.parse::<std::net::IpAddr>().unwrap()));
}

/// Which of the VIP's reals have a share of the ring in the tables.
fn takers(plane: &Recorder) -> Vec<String> {
    let tables = plane.tables();
    let service = &tables.services[&name(A)];
    let mut takers: Vec<String> = service
        .ring
        .iter()
        .filter(|position| **position != NO_REAL)
        .map(|position| service.reals[usize::from(*position)].to_string())
        .collect();
    takers.sort();
    takers.dedup();
    takers
}

#[tokio::test]
async fn an_own_address_is_refused_as_a_real() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    own(&plane, true);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_real(A, "10.1.0.2")).await.unwrap();
    let refusal = change(&owner.0, add_real(A, OWN)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
    let text = refusal.to_string();
    for word in [OWN, "address of this host", "another real"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(takers(&plane), ["10.1.0.2"]);
    assert_eq!(owner.0.list(Some(name(A))).await.unwrap()[0].reals.len(), 1);
    end(owner).await;
}

#[tokio::test]
async fn a_real_whose_address_becomes_the_hosts_takes_no_flows() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    for real in ["10.1.0.2", OWN] {
        change(&owner.0, add_real(A, real)).await.unwrap();
    }
    let both = ["10.1.0.2".to_owned(), OWN.to_owned()];
    assert_eq!(takers(&plane), both);
    let mut watching = owner.0.watch(None, None).await.unwrap();
    own(&plane, true);
    owner.0.tick();
    let event = watching.events.recv().await.unwrap();
    let What::RealChanged(real) = &event.what else {
        panic!("{event:?}")
    };
    assert_eq!(
        (real.address.to_string().as_str(), real.state),
        (OWN, RealState::Down)
    );
    assert_eq!(takers(&plane), both[..1]);
    let warnings = owner.0.status().await.unwrap().warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains(OWN)),
        "{warnings:?}"
    );
    // Another VIP cannot have it either.
    change(&owner.0, add_vip(B)).await.unwrap();
    assert!(change(&owner.0, add_real(B, OWN)).await.is_err());
    end(owner).await;

    // It is stored, so an agent that starts keeps it, and the others serve.
    plane.tables().services.clear();
    let owner = begin(directory.path(), &plane);
    assert_eq!(takers(&plane), both[..1]);
    own(&plane, false);
    owner.0.tick();
    owner.0.status().await.unwrap();
    assert_eq!(takers(&plane), both);
    end(owner).await;
}

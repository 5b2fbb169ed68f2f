//! A host and a controller over a real connection.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use lb_drivers::{Driver as _, ErrorCode, Owned};
use lb_model::{component::Component, host::HostName};
use lb_proto::host::v1;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::Status;

use crate::{
    accept::{self, Attached, Door},
    authority::{Authority, Subject},
    dial,
    identity::Identity,
    remote::{Remote, RemoteDriver},
    server::{HostServer, Room, Word},
    token::{Digest, Token},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes one token, and whoever has joined by it.
struct OneToken {
    key: String,
    joined: Mutex<Option<(HostName, Digest)>>,
    attached: mpsc::UnboundedSender<Attached>,
}

#[async_trait]
impl Door for OneToken {
    async fn join(&self, token: &Token, name: &HostName, key: Digest) -> Result<(), Status> {
        if token.key() != self.key {
            return Err(Status::unauthenticated("there is no such token"));
        }
        *self.joined.lock().unwrap() = Some((name.clone(), key));
        Ok(())
    }

    fn check(&self, subject: &Subject) -> Result<(), String> {
        let joined = self.joined.lock().unwrap();
        if joined.as_ref() == Some(&(subject.name.clone(), subject.key.digest())) {
            Ok(())
        } else {
            Err("it was removed".to_owned())
        }
    }

    fn attached(&self, attached: Attached) {
        self.attached.send(attached).unwrap();
    }

    async fn issued(&self, _: &HostName, _: Duration) {}

    fn lifetime(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn controller(&self) -> &str {
        "main"
    }
}

struct Bed {
    folder: tempfile::TempDir,
    address: String,
    token: Token,
    door: Arc<OneToken>,
    attached: mpsc::UnboundedReceiver<Attached>,
}

impl Bed {
    /// A machine with this folder becomes a host.
    async fn join(&self, folder: &Path, name: &HostName) -> Identity {
        let joined = dial::join(folder, &self.address, &self.token, name).await;
        joined.unwrap()
    }
}

async fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::open(&folder.path().join("authority")).unwrap());
    let token = Token::new(authority.certificate()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, attached) = mpsc::unbounded_channel();
    let door = Arc::new(OneToken {
        key: token.key(),
        joined: Mutex::default(),
        attached: sender,
    });
    tokio::spawn(accept::serve(
        listener,
        authority,
        Arc::clone(&door) as Arc<dyn Door>,
    ));
    Bed {
        folder,
        address,
        token,
        door,
        attached,
    }
}

fn server(identity: &Identity, folder: &Path) -> HostServer {
    let owned = Owned {
        owner: identity.controller.clone(),
        state: folder.to_owned(),
        agent: "/bin/true".into(),
        allow_exec: true,
        receive_at: None,
    };
    let room = Room {
        cpu: 2.0,
        memory: 1 << 30,
        labels: BTreeMap::from([("rack".to_owned(), "a".to_owned())]),
    };
    HostServer::new(identity, folder.to_owned(), owned, room)
}

#[tokio::test]
async fn a_host_joins_and_is_called_over_its_own_connection() {
    let mut bed = bed().await;
    let folder = bed.folder.path().join("host");
    let name: HostName = "h1".parse().unwrap();
    let identity = bed.join(&folder, &name).await;
    assert_eq!(
        (&identity.name, identity.controller.as_str()),
        (&name, "main")
    );
    let server = server(&identity, &folder);
    let (_keep, identities) = watch::channel(Arc::new(identity));
    let serving = tokio::spawn(dial::serve(identities, server.clone()));
    let mut attached = tokio::time::timeout(PATIENCE, bed.attached.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(attached.subject.name, name);
    bed.door.check(&attached.subject).unwrap();
    let request = v1::DescribeRequest {
        controller: "main".to_owned(),
    };
    let description = attached
        .client
        .describe(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((description.name.as_str(), description.cpu), ("h1", 2.0));
    assert_eq!(description.labels["rack"], "a");
    let request = v1::DescribeRequest {
        controller: "other".to_owned(),
    };
    let status = attached.client.describe(request).await.unwrap_err();
    assert!(
        status.message().contains("one of the controller main"),
        "{status}"
    );
    // Something listens here, something refuses there; nothing is at a documentation address.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let request = v1::ReachRequest {
        endpoints: vec![bed.address.clone(), closed.to_string()],
        timeout_ms: 1_000,
    };
    let reached = attached
        .client
        .reach(request)
        .await
        .unwrap()
        .into_inner()
        .reached;
    assert_eq!(reached, [true, true]);
    // A driver that is a program of the operator.
    let program = bed.folder.path().join("driver");
    let answer = r#"#!/bin/sh
line=$(cat)
case "$line" in
  *'"list"'*) echo '{"ok":{"instances":[{"name":"web-1-1","phase":{"phase":"running"}}],"capabilities":{"pause":true}}}' ;;
  *) echo '{"error":{"code":"no_room","text":"it is full"}}' ;;
esac
"#;
    std::fs::write(&program, answer).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut component = Component::named("exec");
    let path = program.display().to_string();
    component.settings.insert("program".to_owned(), path.into());
    let remote = Arc::new(Remote::new(name));
    let driver = RemoteDriver::new(Arc::clone(&remote), &component);
    assert_eq!(
        driver.list().await.unwrap_err().code(),
        ErrorCode::Unreachable
    );
    remote.connect(1, attached.client.clone());
    let listed = driver.list().await.unwrap();
    assert_eq!(listed[0].name.to_string(), "web-1-1");
    let error = driver
        .remove(&"web-1-1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoRoom);
    // Signs of life come by themselves, and the host knows that it is welcome.
    let mut beats = attached
        .client
        .watch(v1::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    for _ in 0..2 {
        let beat = tokio::time::timeout(PATIENCE, beats.message())
            .await
            .unwrap();
        assert_eq!(beat.unwrap().unwrap(), v1::WatchResponse::default());
    }
    assert_eq!(*server.word().borrow(), Word::Welcome);
    // The host ends: the controller hears of it, and its calls fail.
    serving.abort();
    let ended = tokio::time::timeout(PATIENCE, attached.end.changed())
        .await
        .unwrap();
    ended.unwrap_err();
    assert_eq!(
        driver.list().await.unwrap_err().code(),
        ErrorCode::Unreachable
    );
}

#[tokio::test]
async fn wrong_tokens_and_wrong_controllers_are_told_apart() {
    let bed = bed().await;
    let folder = bed.folder.path().join("host");
    let name: HostName = "h1".parse().unwrap();
    // A token of the same controller that it does not know.
    let authority = Authority::open(&bed.folder.path().join("authority")).unwrap();
    let wrong = Token::new(authority.certificate()).unwrap();
    let error = dial::join(&folder, &bed.address, &wrong, &name)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no such token"), "{error}");
    // One of another controller: the host does not even show it.
    let other = tempfile::tempdir().unwrap();
    let other = Authority::open(other.path()).unwrap();
    let wrong = Token::new(other.certificate()).unwrap();
    let error = dial::join(&folder, &bed.address, &wrong, &name)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not the controller that made the token"),
        "{error}"
    );
    assert!(matches!(
        Identity::open(&folder),
        Err(crate::identity::IdentityError::NotJoined(_))
    ));
    // An answer that got lost: the same token and key again.
    bed.join(&folder, &name).await;
    bed.join(&folder, &name).await;
}

#[tokio::test]
async fn certificates_are_renewed_before_they_end() {
    let mut bed = bed().await;
    let folder = bed.folder.path().join("host");
    let name: HostName = "h1".parse().unwrap();
    let identity = bed.join(&folder, &name).await;
    let server = server(&identity, &folder);
    let (sender, mut identities) = watch::channel(Arc::new(identity));
    let keeping = tokio::spawn(dial::keep_certificate(sender));
    let serving = tokio::spawn(dial::serve(identities.clone(), server));
    // Twice its lifetime, it still connects.
    for _ in 0..3 {
        tokio::time::timeout(PATIENCE, identities.changed())
            .await
            .unwrap()
            .unwrap();
    }
    assert!(!Identity::open(&folder).unwrap().left().is_zero());
    tokio::time::timeout(PATIENCE, bed.attached.recv())
        .await
        .unwrap()
        .unwrap();
    // A host that was removed is not given another one.
    *bed.door.joined.lock().unwrap() = None;
    let ends = async {
        while !identities.borrow().left().is_zero() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.unwrap();
    keeping.abort();
    serving.abort();
}

//! Owners of objects, revisions, and a configuration file whose objects follow it.

use lb_model::intent::Owner;

use super::*;

const REAL: &str = "10.1.0.2";

/// The VIPs of a file that makes these changes.
fn file(changes: &[Change]) -> Intent {
    let mut intent = Intent::default();
    for change in changes {
        let writer = Writer::of(Owner::File);
        let vip = change.apply(&intent, &writer, &crate::KINDS).unwrap();
        intent.replace(*change.vip(), vip);
    }
    intent
}

fn begin_with(
    directory: &Path,
    plane: &Recorder,
    file: Option<Intent>,
) -> (Handle, JoinHandle<()>) {
    let options = Options {
        file,
        ..Options::default()
    };
    let state = State::open(directory).unwrap();
    start(state, Box::new(plane.clone()), options).unwrap()
}

async fn follow(handle: &Handle, wanted: Intent, force: bool) -> Followed {
    let writer = Writer {
        force,
        ..Writer::of(Owner::File)
    };
    handle
        .follow(wanted, writer, Arc::from("test"))
        .await
        .unwrap()
}

#[tokio::test]
async fn objects_of_the_file_follow_it_at_each_start() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let both = file(&[add_vip(A), add_real(A, REAL), add_vip(B)]);
    let owner = begin_with(directory.path(), &plane, Some(both.clone()));
    change(&owner.0, add_real(A, "10.1.0.3")).await.unwrap();
    let calls = plane.tables().calls.len();
    end(owner).await;

    // The same file changes nothing, and the API's real stays.
    let owner = begin_with(directory.path(), &plane, Some(both));
    let vips = owner.0.list(None).await.unwrap();
    assert_eq!((vips.len(), vips[0].reals.len()), (2, 2));
    let revision = owner.0.status().await.unwrap().revision;
    end(owner).await;
    assert!(calls > 0);

    // A file that no longer has the real and the other VIP.
    let owner = begin_with(directory.path(), &plane, Some(file(&[add_vip(A)])));
    let vips = owner.0.list(None).await.unwrap();
    assert_eq!((vips.len(), vips[0].reals.len()), (1, 1));
    assert!(!plane.tables().services.contains_key(&name(B)));
    assert_eq!(
        owner.0.status().await.unwrap().revision,
        revision + 1,
        "all changes are one commit"
    );
    end(owner).await;

    // Without a file its objects stay.
    let owner = begin_with(directory.path(), &plane, None);
    assert_eq!(owner.0.list(None).await.unwrap().len(), 1);
    end(owner).await;
}

#[tokio::test]
async fn a_file_that_is_read_again_leaves_objects_of_others_alone() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin_with(directory.path(), &plane, Some(Intent::default()));
    change(&owner.0, add_vip(A)).await.unwrap();
    let wanted = file(&[add_vip(A), add_real(A, REAL)]);
    let followed = follow(&owner.0, wanted.clone(), false).await;
    assert_eq!(followed.left.len(), 1);
    assert!(matches!(
        &followed.changes[..],
        [(Change::AddReal { .. }, Ok(()))]
    ));

    // The API may not change the file's real; with force it takes it over.
    let refusal = change(&owner.0, set_weight(A, REAL, 7)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::OtherOwner { .. }), "{refusal}");
    let mut request = ChangeRequest::new(set_weight(A, REAL, 7), Arc::from("test"));
    request.writer.force = true;
    owner.0.change(request).await.unwrap();
    let followed = follow(&owner.0, wanted.clone(), false).await;
    assert_eq!((followed.left.len(), followed.changes.len()), (2, 0));

    // A forced reload takes everything over that the file names.
    let followed = follow(&owner.0, wanted, true).await;
    assert!(followed.left.is_empty());
    let vips = owner.0.list(None).await.unwrap();
    assert_eq!(vips[0].vip.owner, Owner::File);
    assert_eq!(vips[0].reals[0].spec.weight, 100);
    end(owner).await;
}

async fn file_warnings(handle: &Handle) -> Vec<String> {
    let mut warnings = handle.status().await.unwrap().warnings;
    warnings.retain(|text| text.contains("configuration file"));
    warnings
}

#[tokio::test]
async fn what_of_a_file_is_not_followed_is_a_warning_until_it_is() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin_with(directory.path(), &plane, Some(Intent::default()));
    let handle = &owner.0;
    change(handle, add_vip(A)).await.unwrap();
    change(handle, add_real(A, REAL)).await.unwrap();
    // As the file has them: they only belong to somebody else.
    follow(handle, file(&[add_vip(A), add_real(A, REAL)]), false).await;
    assert_eq!(file_warnings(handle).await, Vec::<String>::new());

    let mut watching = handle.watch(None, None).await.unwrap();
    let mut next = async || watching.events.recv().await.unwrap().cause.to_string();
    let wanted = file(&[add_vip(A), add_real(A, REAL), set_weight(A, REAL, 5)]);
    follow(handle, wanted, false).await;
    let [warning] = &file_warnings(handle).await[..] else {
        panic!("{:?}", file_warnings(handle).await)
    };
    assert!(
        warning.contains("real 10.1.0.2 of VIP 10.0.0.1:80/tcp (owner api) otherwise"),
        "{warning}"
    );
    assert_eq!(next().await, *warning);
    // Its owner makes it as the file wants it, without a reload.
    change(handle, set_weight(A, REAL, 5)).await.unwrap();
    assert_eq!(next().await, "test");
    handle.tick();
    assert!(next().await.contains("no other owner has an object"));
    assert_eq!(file_warnings(handle).await, Vec::<String>::new());

    // Settings of the agent are a topic of their own.
    let note = Some("settings of the configuration file have changed".to_owned());
    let topic = FileTopic::AtNextStart;
    for _ in 0..2 {
        handle.note_file(topic, note.clone()).await;
    }
    assert_eq!(file_warnings(handle).await.len(), 1);
    assert_eq!(Some(next().await), note);
    handle.note_file(topic, None).await;
    assert!(next().await.contains("again those that it started with"));
    assert_eq!(file_warnings(handle).await, Vec::<String>::new());
    follow(handle, file(&[add_vip(B)]), false).await;
    end(owner).await;

    // An agent without the file does not follow it.
    let owner = begin_with(directory.path(), &plane, None);
    let [warning] = &file_warnings(&owner.0).await[..] else {
        panic!("{:?}", file_warnings(&owner.0).await)
    };
    assert!(warning.contains(&format!("(VIP {B})")), "{warning}");
    let mut request = ChangeRequest::new(Change::DeleteVip { vip: name(B) }, Arc::from("test"));
    request.writer.force = true;
    owner.0.change(request).await.unwrap();
    owner.0.tick();
    assert_eq!(file_warnings(&owner.0).await, Vec::<String>::new());
    end(owner).await;
}

#[tokio::test]
async fn a_change_may_insist_on_a_revision() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    let view = change(&owner.0, add_vip(A)).await.unwrap().unwrap();
    let seen = view.vip.revision;
    assert_eq!(seen, 1);
    change(&owner.0, add_real(A, REAL)).await.unwrap();
    let with = |expected| {
        let mut request = ChangeRequest::new(set_weight(A, REAL, 7), Arc::from("test"));
        request.writer.expected_revision = expected;
        request
    };
    let refusal = owner.0.change(with(seen)).await.unwrap_err();
    assert!(
        matches!(refusal, Refusal::OtherRevision { found: 2, .. }),
        "{refusal}"
    );
    let view = owner.0.change(with(2)).await.unwrap().unwrap();
    assert_eq!(view.vip.revision, 3);
    end(owner).await;
    assert_eq!(stored(directory.path()).get(&name(A)).unwrap().revision, 3);
}

#[tokio::test]
async fn a_watcher_continues_where_it_ended() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    change(&owner.0, add_vip(A)).await.unwrap();
    change(&owner.0, add_vip(B)).await.unwrap();
    let seen = owner.0.watch(None, None).await.unwrap();
    assert_eq!(
        (seen.revision, seen.resumed, seen.snapshot.len()),
        (2, false, 2)
    );
    change(&owner.0, add_real(A, REAL)).await.unwrap();
    change(&owner.0, Change::DeleteVip { vip: name(B) })
        .await
        .unwrap();
    let watching = owner.0.watch(None, Some(seen.revision)).await.unwrap();
    assert!(watching.resumed);
    assert_eq!(watching.snapshot.len(), 1);
    assert_eq!(watching.snapshot[0].vip.address, name(A));
    assert_eq!(watching.deleted, [name(B)]);
    let watching = owner.0.watch(None, Some(watching.revision)).await.unwrap();
    assert!(watching.resumed && watching.snapshot.is_empty() && watching.deleted.is_empty());
    // A revision that the agent does not know gets everything.
    let watching = owner.0.watch(None, Some(1_000)).await.unwrap();
    assert_eq!((watching.resumed, watching.snapshot.len()), (false, 1));
    end(owner).await;
}

//! Which of the commands that wait the owner takes first.

use super::*;

/// Questions of each of the two kinds that readers ask.
const QUESTIONS: usize = 20;

/// Waits until something is so: a condition that other tasks bring about.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_made_before_readers_are_answered() {
    let (directory, plane) = (tempfile::tempdir().unwrap(), Recorder::default());
    let owner = begin(directory.path(), &plane);
    let handle = &owner.0;
    // The owner is at work while commands and questions arrive.
    let held = plane.hold();
    let request = |vip| ChangeRequest::new(add_vip(vip), Arc::from("test"));
    let first = handle.submit(request(A), false).await.unwrap();
    until(|| handle.waiting() == 0).await;
    let mut readers = Vec::new();
    for _ in 0..QUESTIONS {
        let handle = handle.clone();
        readers.push(tokio::spawn(async move {
            (
                handle.stats(None).await.unwrap().vips.len(),
                handle.list(None).await.unwrap().len(),
            )
        }));
    }
    let waiting = || handle.questions.max_capacity() - handle.questions.capacity();
    until(|| waiting() == QUESTIONS).await;
    // What comes later than all of them.
    let second = handle.submit(request(B), false).await.unwrap();
    drop(held);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let mut early = 0;
    for reader in readers {
        let (counted, listed) = reader.await.unwrap();
        assert_eq!(listed, 2);
        early += usize::from(counted < 2);
    }
    // One question is answered out of turn if the owner had no time for any during half a second.
    assert!(early <= 1, "{early} readers were answered before a change");
    end(owner).await;
}

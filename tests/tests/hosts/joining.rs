//! Who becomes a host, and who does not.

use std::{fs, time::Duration};

use anyhow::ensure;
use lb_tests::wait_for;

use crate::bed::{Bed, PATIENCE};

/// What the program of a host says when it ends, which it does.
fn fails(bed: &Bed, at: usize, words: &[&str]) -> anyhow::Result<String> {
    let mut process = bed.spawn(at, words)?;
    let (status, output) = process.wait_end(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {output}");
    Ok(output)
}

pub fn tokens_make_hosts_once() -> anyhow::Result<()> {
    let mut bed = Bed::new("tokens", "")?;
    let (one, two) = (bed.add_machine()?, bed.add_machine()?);
    let text = fails(&bed, one, &[])?;
    ensure!(text.contains("lbctl host token"), "{text}");
    // One that is damaged, and one that the controller never made.
    let token = bed.token("")?;
    let output = bed
        .spawn(one, &["--join", &token[..20]])?
        .wait_end(PATIENCE)?;
    ensure!(output.0.code() == Some(2), "{output:?}");
    let other = Bed::new("other", "")?;
    let text = fails(&bed, one, &["--join", &other.token("")?])?;
    ensure!(
        text.contains("not the controller that made the token"),
        "{text}"
    );
    // One that has ended.
    let short = bed.token("--lifetime 1s")?;
    std::thread::sleep(Duration::from_millis(1_500));
    let text = fails(&bed, one, &["--join", &short])?;
    ensure!(text.contains("the token ended"), "{text}");
    // One for another host.
    let bound = bed.token("--name h2")?;
    let text = fails(&bed, one, &["--join", &bound])?;
    ensure!(text.contains("is for host h2"), "{text}");
    bed.start(one, &["--join", &token])?;
    let text = fails(&bed, two, &["--join", &token])?;
    ensure!(text.contains("was used by host h1"), "{text}");
    bed.start(two, &["--join", &bound])?;
    let list = bed.run("list")?;
    ensure!(
        list.contains("local") && list.contains("h1") && list.contains("h2"),
        "{list}"
    );
    // What is known of them, also as JSON and as metrics.
    let (status, body) = bed.http("GET", "/v1/hosts/h1", "")?;
    ensure!(status == 200 && body.contains("\"state\":\"up\""), "{body}");
    let (_, body) = bed.http("GET", "/metrics", "")?;
    ensure!(
        body.contains("lb_host_certificate_seconds{host=\"h1\"}"),
        "{body}"
    );
    let (status, body) = bed.http("POST", "/v1/host-tokens", "{\"lifetime\": \"5m\"}")?;
    ensure!(status == 201 && body.contains("lbhost1-"), "{body}");
    let (status, body) = bed.http("PATCH", "/v1/hosts/h1", "{\"duty\": \"resting\"}")?;
    ensure!(status == 422 && body.contains("cordoned"), "{body}");
    let text = bed.refused("cordon h9")?;
    ensure!(text.contains("there is no host h9"), "{text}");
    Ok(())
}

pub fn a_host_that_answers_with_another_name_is_refused() -> anyhow::Result<()> {
    let mut bed = Bed::new("names", "")?;
    bed.join(2)?;
    bed.kill(0)?;
    let card = fs::read_to_string(bed.card(0))?;
    fs::write(bed.card(0), card.replace("\"h1\"", "\"h2\""))?;
    let text = fails(&bed, 0, &[])?;
    ensure!(
        text.contains("answers as \"h2\"") && text.contains("that of h1"),
        "{text}"
    );
    let shown = bed.shown(0)?;
    ensure!(
        shown["why"]
            .as_str()
            .is_some_and(|why| why.contains("answers as")),
        "{shown}"
    );
    // The other one is not disturbed, and this one is taken again when it is itself.
    ensure!(bed.shown(1)?["state"] == "up");
    fs::write(bed.card(0), card)?;
    bed.start(0, &[])?;
    bed.wait_state(0, "up")?;
    // One that was removed hears so.
    bed.kill(0)?;
    bed.run("remove h1")?;
    let text = fails(&bed, 0, &[])?;
    ensure!(text.contains("it was removed"), "{text}");
    let token = bed.token("")?;
    bed.start(0, &["--join", &token])?;
    bed.wait_state(0, "up").map(drop)
}

pub fn certificates_are_renewed_while_a_host_works() -> anyhow::Result<()> {
    let mut bed = Bed::new("renewed", "certificate_lifetime = \"10s\"")?;
    bed.join(1)?;
    let before = fs::read_to_string(bed.card(0))?;
    wait_for("another certificate", PATIENCE, || {
        Ok((fs::read_to_string(bed.card(0))? != before).then_some(()))
    })?;
    // With the one before it could not connect any more.
    let renewed = fs::read_to_string(bed.card(0))?;
    wait_for("a third certificate", PATIENCE, || {
        Ok((fs::read_to_string(bed.card(0))? != renewed).then_some(()))
    })?;
    bed.kill(0)?;
    bed.start(0, &[])?;
    let shown = bed.wait_state(0, "up")?;
    ensure!(
        shown["certificate_left"]
            .as_u64()
            .is_some_and(|left| left <= 10),
        "{shown}"
    );
    Ok(())
}

//! What real servers do not answer when all is well: wrong clocks, forged and senseless answers.

use hickory_proto::{
    op::Metadata,
    rr::{
        TSigResponseContext,
        rdata::tsig::{TsigAlgorithm, make_tsig_record},
    },
};
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn key() -> Key {
    Key::new("hmac-sha256", "lbkey", SECRET).unwrap()
}

/// Sends an update to a peer that answers with these bytes, or not at all.
async fn update(answer: impl Fn(&Message) -> Option<Vec<u8>> + Send + 'static) -> PushError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        if let Some(answer) = answer(&Message::from_vec(&bytes).unwrap()) {
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    let patience = Duration::from_secs(20);
    let mut connection = Connection::open(server, key(), patience).await.unwrap();
    let mut message = Message::new(0, MessageType::Query, OpCode::Update);
    message.add_query(Query::query(Name::root(), RecordType::SOA));
    connection.update([message]).await.unwrap_err()
}

fn response_to(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, OpCode::Update);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.response_code = code;
    response.add_queries(request.queries.iter().cloned());
    response
}

#[tokio::test]
async fn clocks_that_differ_are_told_with_by_how_much() {
    let error = update(|request| {
        let mut response = response_to(request, ResponseCode::NotAuth);
        let asked = &request.signature.as_ref().unwrap().data;
        let time = (unix_time() + 7_200).to_be_bytes()[2..].to_vec();
        let signature = TSIG::new(
            TsigAlgorithm::HmacSha256,
            asked.time,
            300,
            Vec::new(),
            request.metadata.id,
            Some(TsigError::BadTime),
            time,
        );
        let name = Name::from_ascii("lbkey.").unwrap();
        response.set_signature(Box::new(make_tsig_record(name, signature)));
        response.to_vec().ok()
    })
    .await;
    let PushError::BadTime { by, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        (7_190..=7_210).contains(&by.as_secs()),
        "two hours, but for the test's own time: {by:?}"
    );
    assert!(error.to_string().contains("synchronize both"), "{error}");
}

#[tokio::test]
async fn success_without_a_signature_is_not_believed() {
    let error = update(|request| response_to(request, ResponseCode::NoError).to_vec().ok()).await;
    assert!(matches!(error, PushError::Unsigned { .. }), "{error}");
}

#[tokio::test]
async fn a_signature_with_another_secret_or_of_another_answer_is_not_believed() {
    let other = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
    for (secret, mac) in [(other, None), (SECRET, Some(vec![0; 32]))] {
        let signer = Key::new("hmac-sha256", "lbkey", secret)
            .unwrap()
            .signer()
            .clone();
        let error = update(move |request| {
            let mut response = response_to(request, ResponseCode::NoError);
            let asked = request.signature.as_ref().unwrap().data.mac.clone();
            let context = TSigResponseContext::new(
                request.metadata.id,
                unix_time(),
                signer.clone(),
                mac.clone().unwrap_or(asked),
                None,
            );
            let signature = context.sign(&response.to_vec().unwrap()).unwrap();
            response.set_signature(signature);
            response.to_vec().ok()
        })
        .await;
        assert!(matches!(error, PushError::Unsigned { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_no_answer() {
    let rubbish = update(|_| Some(b"HTTP/1.1 400 Bad Request".to_vec())).await;
    assert!(matches!(rubbish, PushError::Answer { .. }), "{rubbish}");
    let another = update(|request| {
        let mut response = response_to(request, ResponseCode::NoError);
        response.metadata.id = response.metadata.id.wrapping_add(1);
        response.to_vec().ok()
    })
    .await;
    assert!(
        another.to_string().contains("answers no question"),
        "{another}"
    );
    let query = update(|request| request.to_vec().ok()).await;
    assert!(query.to_string().contains("it is no answer"), "{query}");
    let nothing = update(|_| None).await;
    assert!(matches!(nothing, PushError::Broken { .. }), "{nothing}");
}

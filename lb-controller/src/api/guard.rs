//! Who makes a call, and whether it may: what [`crate::access`] decides, over gRPC.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use lb_serve::Peer;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::serve::MAX_REQUEST;
use crate::{
    access::{
        Attempt, Caller, Denied, Directory, Entering, Names, Proof,
        verbs::{self, On},
    },
    http::guard::hidden,
};

/// Services that need no role: they say whether the controller lives, and what methods there are.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];
/// The services that are controlled.
const PACKAGE: &str = "/lb.controller.v1.";
/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Who makes a call.
pub fn caller<T>(request: &tonic::Request<T>) -> Caller {
    let caller = request.extensions().get::<Caller>();
    caller.cloned().unwrap_or_else(|| Caller::anonymous(None))
}

/// The guard of a server.
#[derive(Clone, Debug)]
pub struct Guard(Directory);

impl Guard {
    /// Guards these objects.
    #[must_use]
    pub const fn new(directory: Directory) -> Self {
        Guard(directory)
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded {
            inner,
            directory: self.0.clone(),
        }
    }
}

/// A service with a [`Guard`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    directory: Directory,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that is ready is this one and not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let directory = self.directory.clone();
        Box::pin(async move {
            if OPEN
                .iter()
                .any(|prefix| request.uri().path().starts_with(prefix))
            {
                return inner.call(request).await;
            }
            let (request, attempt) = match enter(&directory, request).await {
                Ok(entered) => entered,
                Err(status) => return Ok(status.into_http()),
            };
            let response = inner.call(request).await?;
            // Of an answer without a body the status is among the fields; others are right, as far as is known.
            let code = match Status::from_header_map(response.headers()) {
                Some(status) => status.code(),
                None => Code::Ok,
            };
            directory.leave(&attempt, code == Code::Ok, format!("{code:?}"));
            Ok(response)
        })
    }
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // The descriptors are part of the program.
    POOL.get_or_init(|| DescriptorPool::decode(lb_proto::DESCRIPTORS).unwrap_or_default())
}

fn method(name: &str) -> Option<MethodDescriptor> {
    let (service, method) = name.split_once('/')?;
    let service = pool().get_service_by_name(&format!("lb.controller.v1.{service}"))?;
    service.methods().find(|one| one.name() == method)
}

async fn enter(
    directory: &Directory,
    request: Request<Body>,
) -> Result<(Request<Body>, Attempt), Status> {
    let path = request.uri().path().to_owned();
    let known = path
        .strip_prefix(PACKAGE)
        .and_then(|name| Some((name, method(name)?)));
    let Some((name, descriptor)) = known else {
        return Err(Status::unimplemented(format!("there is no method {path}")));
    };
    let Some(verb) = verbs::of_grpc(name) else {
        let text = format!("no role allows {name}: this program has no rule for it");
        return Err(Status::permission_denied(text));
    };
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.unwrap_or(Peer::Unknown);
    let caller = identify(directory, request.headers(), &path, &peer)?;
    // Who may do nothing has nothing read.
    if caller.best().is_none() && verb.on != On::Open {
        return Err(unauthenticated(&Denied::Unauthenticated.to_string()));
    }
    let (parts, body) = request.into_parts();
    let (names, body) = if descriptor.is_client_streaming() {
        (Names::default(), body)
    } else {
        let bytes = read(body).await?;
        let names = names(&descriptor, &bytes)?;
        (names, Body::new(Full::new(bytes)))
    };
    let mut request = Request::from_parts(parts, body);
    let named = directory.named(&names, &caller);
    let attempt = directory
        .enter(Entering {
            verb,
            caller: &caller,
            peer: &peer,
            via: "grpc",
            names,
            named,
            request: String::new(),
        })
        .map_err(|refused| {
            let (denied, attempt) = *refused;
            match denied {
                Denied::Unauthenticated => unauthenticated(&denied.to_string()),
                Denied::Forbidden { .. } => Status::permission_denied(denied.to_string()),
                Denied::Hidden => super::projects::no_such(&attempt.names, hidden(&attempt.names)),
            }
        })?;
    request.extensions_mut().insert(caller);
    Ok((request, attempt))
}

fn identify(
    directory: &Directory,
    headers: &HeaderMap,
    path: &str,
    peer: &Peer,
) -> Result<Caller, Status> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(unauthenticated(
            "there are several authorizations; send one",
        ));
    }
    let proof = Proof {
        field: field.map(HeaderValue::as_bytes),
        method: "POST",
        target: path,
    };
    let identified = directory.access().identify(peer, proof);
    identified.map_err(|unproved| unauthenticated(&unproved.text))
}

fn unauthenticated(text: &str) -> Status {
    Status::unauthenticated(text)
}

/// Reads a request of one message.
async fn read(body: Body) -> Result<Bytes, Status> {
    let body = Limited::new(body, MAX_REQUEST + PREFIX).collect();
    let body = tokio::time::timeout(ARRIVAL, body)
        .await
        .map_err(|_| Status::deadline_exceeded("the request did not come in time"))?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                let text = format!("the request has more than {MAX_REQUEST} bytes");
                Status::resource_exhausted(text)
            } else {
                Status::unavailable(format!("the request did not come: {error}"))
            }
        })?;
    Ok(body.to_bytes())
}

/// What a request of one message names. What cannot be read exactly as the method reads it is refused here: it could name
/// something else there.
fn names(method: &MethodDescriptor, bytes: &Bytes) -> Result<Names, Status> {
    let unreadable = || Status::invalid_argument("the request is not one message that can be read");
    let (prefix, message) = bytes.split_at_checked(PREFIX).ok_or_else(unreadable)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(unreadable());
    }
    let message = DynamicMessage::decode(method.input(), message).map_err(|_| unreadable())?;
    let input = method.input();
    let fields = input.fields().filter_map(|field| {
        let value = message.get_field(&field);
        let text = match &*value {
            Value::String(text) => text.clone(),
            // Numbers of commands, of which 0 is none.
            Value::U64(number) if *number > 0 => number.to_string(),
            _ => return None,
        };
        Some((field.name().to_owned(), text))
    });
    let mut names = Names::default();
    for (name, text) in fields {
        names.set(&name, text);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use lb_proto::controller::v1;

    use super::*;

    fn framed(message: &impl prost::Message) -> Bytes {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        bytes.extend(message.encode_to_vec());
        bytes.into()
    }

    #[test]
    fn messages_name_their_objects() {
        let request = v1::UpdateBalancerRequest {
            project: "shop".to_owned(),
            balancer: "web".to_owned(),
            patch: None,
        };
        let update = method("Controller/UpdateBalancer").unwrap();
        let bytes = framed(&request);
        let found = names(&update, &bytes).unwrap();
        assert_eq!(found.to_string(), "project=shop balancer=web");
        // A second message would be read by nobody, or by the method alone.
        let twice = [&bytes[..], &bytes[..]].concat();
        let mut compressed = bytes.to_vec();
        compressed[0] = 1;
        let broken = [0, 0, 0, 0, 1, 0xff];
        for wrong in [
            &compressed[..],
            &twice,
            &broken,
            &bytes[..4],
            b"",
            &bytes[..bytes.len() - 1],
        ] {
            names(&update, &Bytes::copy_from_slice(wrong)).unwrap_err();
        }
        assert!(method("Controller/NoSuch").is_none());
        assert!(method("Nothing").is_none());
    }
}

//! Who makes a request, and whether it may: what [`crate::access`] decides, over HTTP.

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::BodyExt as _;
use lb_serve::Peer;

use super::{
    Body, Site,
    envelope::Kind,
    routes::{self, problem},
};
use crate::{
    access::{
        AccountError, Attempt, Caller, Denied, Entering, Named, Names, Proof, Unproved,
        verbs::{self, Route},
    },
    projects::Projects,
    registry::Refusal,
};

/// Who makes a request, among its extensions.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The caller.
    pub caller: Caller,
    /// Where it is.
    pub peer: Peer,
    /// The request's id.
    pub request: String,
}

/// Who makes a request. Every request has been let in, so there is somebody.
pub fn caller<B>(request: &Request<B>) -> Caller {
    let origin = request.extensions().get::<Origin>();
    origin.map_or_else(|| Caller::anonymous(None), |origin| origin.caller.clone())
}

/// Lets a request in, or answers it.
pub fn enter<B>(
    site: &Site,
    request: &mut Request<B>,
    peer: &Peer,
    id: &HeaderValue,
) -> Result<Attempt, Response<Body>> {
    let (verb, found) = match verbs::of_http(request.method().as_str(), request.uri().path()) {
        Route::Verb(verb, found) => (verb, found),
        Route::Methods(methods) => return Err(other_method(&methods)),
        Route::Nothing => {
            return Err(problem(
                StatusCode::NOT_FOUND,
                "there is nothing here; /v1/openapi.json describes the API",
            ));
        }
    };
    let names = found
        .into_iter()
        .map(|(name, text)| (name, text.to_owned()));
    let mut names = Names::of(names);
    if names.get("project").is_none()
        && let Some(project) = routes::query_text(request.uri(), "project")
    {
        names.set("project", project);
    }
    let caller = identify(site, request, peer)
        // A path that needs no role is for those as well who cannot prove who they are.
        .or_else(|unproved| match verb.on {
            verbs::On::Open => Ok(Caller::anonymous(None)),
            _ => Err(unproved),
        })
        .map_err(|unproved| unproved_answer(site, &unproved))?;
    let request_id = id.to_str().unwrap_or_default().to_owned();
    let named = site.directory.named(&names, &caller);
    let entered = site.directory.enter(Entering {
        verb,
        caller: &caller,
        peer,
        via: "http",
        names,
        named,
        request: request_id.clone(),
    });
    let attempt = entered.map_err(|refused| denied_answer(site, refused.0, &refused.1.names))?;
    request.extensions_mut().insert(Origin {
        caller,
        peer: peer.clone(),
        request: request_id,
    });
    Ok(attempt)
}

fn other_method(methods: &[&str]) -> Response<Body> {
    let mut methods = methods.to_vec();
    methods.dedup();
    let list = methods.join(", ");
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this path takes {list}"),
    );
    // Names of methods.
    if let Ok(list) = HeaderValue::from_str(&list) {
        response.headers_mut().insert(ALLOW, list);
    }
    response
}

fn identify<B>(site: &Site, request: &Request<B>, peer: &Peer) -> Result<Caller, Unproved> {
    let mut fields = request.headers().get_all(AUTHORIZATION).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Unproved {
            text: "there are several Authorization fields; send one".to_owned(),
            is_stale: false,
        });
    }
    let target = request.uri().path_and_query();
    let proof = Proof {
        field: field.map(HeaderValue::as_bytes),
        method: request.method().as_str(),
        target: target.map_or("/", |target| target.as_str()),
    };
    site.directory.access().identify(peer, proof)
}

/// Asks for a proof.
fn challenge(site: &Site, text: &str, is_stale: bool) -> Response<Body> {
    let mut response = problem(StatusCode::UNAUTHORIZED, text);
    for challenge in site.directory.access().challenges(is_stale) {
        // Printable characters.
        if let Ok(value) = HeaderValue::from_str(&challenge) {
            response.headers_mut().append(WWW_AUTHENTICATE, value);
        }
    }
    response
}

fn unproved_answer(site: &Site, unproved: &Unproved) -> Response<Body> {
    challenge(site, &unproved.text, unproved.is_stale)
}

/// The text and the status of a denial. What is hidden is answered as what does not exist.
pub fn denial(denied: Denied, names: &Names) -> (StatusCode, String) {
    match denied {
        Denied::Unauthenticated => (StatusCode::UNAUTHORIZED, denied.to_string()),
        Denied::Forbidden { .. } => (StatusCode::FORBIDDEN, denied.to_string()),
        Denied::Hidden => (StatusCode::NOT_FOUND, hidden(names)),
    }
}

/// What is said of something that must not be known.
pub fn hidden(names: &Names) -> String {
    if let Some(project) = names.get("project") {
        return match project.parse() {
            Ok(key) => Refusal::NoProject(key).to_string(),
            Err(advice) => advice,
        };
    }
    let token = names.get("token").unwrap_or_default();
    AccountError::NoToken(token.to_owned()).to_string()
}

fn denied_answer(site: &Site, denied: Denied, names: &Names) -> Response<Body> {
    let (status, text) = denial(denied, names);
    match denied {
        Denied::Unauthenticated => challenge(site, &text, false),
        _ => problem(status, &text),
    }
}

/// Asks who sends an order in an envelope for a proof, if it needs one: a client of HTTP Digest sends an empty body first.
pub fn ask_for_order(site: &Site, origin: &Origin) -> Option<Response<Body>> {
    let may_change = origin.caller.best() > Some(crate::access::Role::Read);
    let is_known = origin.caller.who != crate::access::Who::Anonymous;
    (!may_change && !is_known).then(|| {
        let text = Denied::Unauthenticated.to_string();
        challenge(site, &text, false)
    })
}

/// Adds challenges to an answer that has the status for it.
pub fn with_challenges(site: &Site, mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::UNAUTHORIZED {
        for challenge in site.directory.access().challenges(false) {
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                response.headers_mut().append(WWW_AUTHENTICATE, value);
            }
        }
    }
    response
}

/// Notes what became of a request.
pub async fn leave(site: &Site, mut attempt: Attempt, response: Response<Body>) -> Response<Body> {
    if !attempt.verb.is_audited {
        return response;
    }
    let (parts, body) = response.into_parts();
    // It is whole, and in memory.
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => match error {},
    };
    if parts.status == StatusCode::CREATED {
        name_created(&mut attempt, &bytes);
    }
    let is_done = parts.status.is_success();
    let status = parts.status.as_str();
    site.directory.leave(&attempt, is_done, status);
    Response::from_parts(parts, Body::new(bytes))
}

/// What was made has its name in the answer.
fn name_created(attempt: &mut Attempt, answer: &Bytes) {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else {
        return;
    };
    let token = answer.get("token").and_then(|token| token.get("id"));
    for (field, value) in [("name", answer.get("name")), ("token", token)] {
        if let Some(text) = value.and_then(serde_json::Value::as_str) {
            attempt.names.set(field, text.to_owned());
        }
    }
}

/// The gate of orders in envelopes.
#[derive(Debug)]
pub struct Gate<'a> {
    site: &'a Site,
    origin: &'a Origin,
}

impl<'a> Gate<'a> {
    /// The gate for who sends an order.
    pub const fn new(site: &'a Site, origin: &'a Origin) -> Self {
        Gate { site, origin }
    }

    /// The projects and load balancers.
    pub const fn projects(&self) -> &Projects {
        &self.site.projects
    }

    /// Who sends it.
    pub const fn caller(&self) -> &Caller {
        &self.origin.caller
    }

    fn project_of(&self, kind: Kind, id: u64) -> Option<u64> {
        let projects = self.projects();
        match kind {
            Kind::Project => Some(id),
            Kind::Subnet => Some(projects.subnet_by_id(id)?.record.project),
            Kind::Instance => Some(projects.balancer_by_id(id)?.record.project),
        }
    }

    /// Lets an order in that names its object by id alone, or other things by name.
    pub fn enter(
        &self,
        verb: &'static verbs::Verb,
        names: Names,
        by_id: Option<(Kind, u64)>,
    ) -> Result<Attempt, (StatusCode, String)> {
        let directory = &self.site.directory;
        let named = match by_id.filter(|_| names.get("project").is_none()) {
            Some((kind, id)) => self
                .project_of(kind, id)
                .map_or(Named::Unknown, Named::Project),
            None => directory.named(&names, self.caller()),
        };
        let entered = directory.enter(Entering {
            verb,
            caller: self.caller(),
            peer: &self.origin.peer,
            via: "http",
            names,
            named,
            request: self.origin.request.clone(),
        });
        entered.map_err(|refused| {
            let (denied, attempt) = *refused;
            match (denied, by_id) {
                (Denied::Hidden, Some((kind, id))) if attempt.names.get("project").is_none() => (
                    StatusCode::NOT_FOUND,
                    super::envelope::there_is_no(kind.name(), id),
                ),
                _ => denial(denied, &attempt.names),
            }
        })
    }

    /// Notes what became of it.
    pub fn leave(&self, attempt: &Attempt, status: StatusCode) {
        let directory = &self.site.directory;
        directory.leave(attempt, status.is_success(), status.as_str());
    }
}

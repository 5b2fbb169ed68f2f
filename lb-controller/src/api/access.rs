//! The service `Access`: users, tokens and the audit log. Nothing is decided here.

use std::time::Duration;

use lb_proto::controller::v1::{self, access_server::Access as Service};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{convert, guard};
use crate::access::{
    Access, AccessError, AccountError, Directory, Grant, Names, accounts::read_grant,
};

/// The service.
#[derive(Clone, Debug)]
pub struct AccessApi(Directory);

impl AccessApi {
    /// Serves access to these objects.
    #[must_use]
    pub const fn new(directory: Directory) -> Self {
        AccessApi(directory)
    }

    fn access(&self) -> &Access {
        self.0.access()
    }

    /// The project of a request; it may name none.
    fn project(&self, text: &str) -> Result<Option<u64>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let names = Names::of([("project", text.to_owned())]);
        match self.0.project(text) {
            Some(id) => Ok(Some(id)),
            None => {
                let text = crate::http::guard::hidden(&names);
                Err(super::projects::no_such(&names, text))
            }
        }
    }
}

fn refused(error: &AccountError) -> Status {
    let text = error.to_string();
    match error {
        AccountError::NoUser(_) | AccountError::NoToken(_) => Status::not_found(text),
        AccountError::Exists(_) => Status::already_exists(text),
        AccountError::TooMany(_) => Status::resource_exhausted(text),
        AccountError::Invalid(error) => {
            let advice = format!("{}: {}", error.value, error.advice);
            let details = ErrorDetails::with_bad_request_violation(error.field.clone(), advice);
            Status::with_error_details(tonic::Code::InvalidArgument, text, details)
        }
    }
}

fn failed(error: &AccessError) -> Status {
    match error {
        AccessError::Refused(error) => refused(error),
        AccessError::Store(_) => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl Service for AccessApi {
    async fn add_user(
        &self,
        request: Request<v1::AddUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let request = request.into_inner();
        let read = |role: &String| read_grant(role, |project| self.0.project(project));
        let grants: Result<Vec<Grant>, AccountError> = request.roles.iter().map(read).collect();
        let grants = grants.map_err(|error| refused(&error))?;
        let password = Some(request.password.as_str()).filter(|text| !text.is_empty());
        let added = self.access().add_user(&request.user, password, grants);
        let record = added.await.map_err(|error| failed(&error))?;
        Ok(Response::new(convert::user(&record, self.0.projects())))
    }

    async fn set_password(
        &self,
        request: Request<v1::SetPasswordRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let request = request.into_inner();
        let changed = self
            .access()
            .set_password(&request.user, &request.password)
            .await;
        let record = changed.map_err(|error| failed(&error))?;
        Ok(Response::new(convert::user(&record, self.0.projects())))
    }

    async fn list_users(
        &self,
        _: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        let users = self.access().users();
        let users = users
            .iter()
            .map(|one| convert::user(one, self.0.projects()));
        Ok(Response::new(v1::ListUsersResponse {
            users: users.collect(),
        }))
    }

    async fn remove_user(
        &self,
        request: Request<v1::RemoveUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        let removed = self.access().remove_user(&request.get_ref().user).await;
        let record = removed.map_err(|error| failed(&error))?;
        Ok(Response::new(convert::user(&record, self.0.projects())))
    }

    async fn add_token(
        &self,
        request: Request<v1::AddTokenRequest>,
    ) -> Result<Response<v1::AddTokenResponse>, Status> {
        let request = request.into_inner();
        let project = self.project(&request.project)?;
        let role = read_grant(&request.role, |_| None).map_err(|error| refused(&error))?;
        let life = request
            .life
            .map(Duration::try_from)
            .transpose()
            .map_err(|_| Status::invalid_argument("life: give a time above 0"))?;
        let exists = |id: u64| self.0.project(&id.to_string()).is_some();
        let grant = Grant { project, ..role };
        let added = self
            .access()
            .add_token(grant, &request.description, life, exists)
            .await;
        let (token, record) = added.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::AddTokenResponse {
            token: Some(convert::token(&record, self.0.projects())),
            text: token.expose(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let project = self.project(&request.get_ref().project)?;
        let tokens = self.access().tokens(&guard::caller(&request), project);
        let tokens = tokens
            .iter()
            .map(|one| convert::token(one, self.0.projects()));
        Ok(Response::new(v1::ListTokensResponse {
            tokens: tokens.collect(),
        }))
    }

    async fn remove_token(
        &self,
        request: Request<v1::RemoveTokenRequest>,
    ) -> Result<Response<v1::Token>, Status> {
        let removed = self.access().remove_token(&request.get_ref().token).await;
        let record = removed.map_err(|error| failed(&error))?;
        Ok(Response::new(convert::token(&record, self.0.projects())))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let caller = guard::caller(&request);
        let request = request.into_inner();
        let project = self.project(&request.project)?;
        let since = match request.since {
            None => None,
            Some(since) => Some(
                jiff::Timestamp::new(since.seconds, since.nanos)
                    .map_err(|error| Status::invalid_argument(format!("since: {error}")))?,
            ),
        };
        let most = Some(request.most.into()).filter(|most| *most > 0);
        let wanted = Access::wanted(&caller, project, since, most);
        let entries = self.access().audit().read(wanted).await;
        let entries = entries.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(v1::ListAuditResponse {
            entries: entries.into_iter().map(convert::audit_entry).collect(),
        }))
    }
}

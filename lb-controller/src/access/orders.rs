//! Orders about users and tokens: checked, stored, taken up.

use std::time::Duration;

use lb_serve::auth::Token;

use super::{
    Access, Caller, Grant, REALM, Role,
    accounts::{AccountError, Accounts, check_password},
    audit::Wanted,
    record::{TokenRecord, UserRecord},
};
use crate::{
    clock::unix_now,
    keeper::{Changes, KeeperError},
};

/// Entries of the audit log in an answer, unless it is said otherwise, and at most.
const ENTRIES: usize = 100;
const MOST_ENTRIES: usize = 10_000;

/// Why an order was not followed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] AccountError),
    /// The store does not work.
    #[error("nothing was changed: {0}")]
    Store(#[from] KeeperError),
}

impl Access {
    /// Checks an order about users, stores the record that follows, and takes it up.
    async fn change_user(
        &self,
        name: &str,
        decide: impl FnOnce(&Accounts) -> Result<Option<UserRecord>, AccountError>,
    ) -> Result<Option<UserRecord>, AccessError> {
        let _ordering = self.0.ordering.lock().await;
        let (before, after) = {
            let accounts = self.accounts();
            (accounts.user(name).ok().cloned(), decide(&accounts)?)
        };
        let (mut write, mut undo) = (Changes::default(), Changes::default());
        write.set(name, after.as_ref());
        undo.set(name, before.as_ref());
        self.store(write, undo).await?;
        self.accounts().set_user(name, after.clone());
        Ok(after)
    }

    async fn store(&self, write: Changes, undo: Changes) -> Result<(), KeeperError> {
        if let Err(error) = self.0.keeper.write(write).await {
            // It may be written after all.
            self.0.keeper.owe(undo);
            return Err(error);
        }
        Ok(())
    }

    /// Adds a user, with a password if there is one.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn add_user(
        &self,
        name: &str,
        password: Option<&str>,
        grants: Vec<Grant>,
    ) -> Result<UserRecord, AccessError> {
        password.map(check_password).transpose()?;
        let algorithms = self.0.settings.algorithms();
        let added = self.change_user(name, |accounts| {
            let mut record = accounts.new_user(name, grants, unix_now())?;
            if let Some(password) = password {
                record.set_password(REALM, password, algorithms);
            }
            Ok(Some(record))
        });
        let missing = || AccountError::NoUser(name.to_owned());
        Ok(added.await?.ok_or_else(missing)?)
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn set_password(
        &self,
        name: &str,
        password: &str,
    ) -> Result<UserRecord, AccessError> {
        check_password(password)?;
        let algorithms = self.0.settings.algorithms();
        let changed = self.change_user(name, |accounts| {
            let mut record = accounts.user(name)?.clone();
            record.set_password(REALM, password, algorithms);
            Ok(Some(record))
        });
        let missing = || AccountError::NoUser(name.to_owned());
        Ok(changed.await?.ok_or_else(missing)?)
    }

    /// Removes a user.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn remove_user(&self, name: &str) -> Result<UserRecord, AccessError> {
        let record = self.accounts().user(name)?.clone();
        self.change_user(name, |accounts| accounts.user(name).map(|_| None))
            .await?;
        Ok(record)
    }

    /// The users.
    #[must_use]
    pub fn users(&self) -> Vec<UserRecord> {
        self.accounts().users().cloned().collect()
    }

    /// Makes a token, and removes those that have ended or whose project is gone.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn add_token(
        &self,
        grant: Grant,
        description: &str,
        life: Option<Duration>,
        exists: impl Fn(u64) -> bool,
    ) -> Result<(Token, TokenRecord), AccessError> {
        let _ordering = self.0.ordering.lock().await;
        let token = Token::new();
        let now = unix_now();
        let (record, useless) = {
            let accounts = self.accounts();
            let record = accounts.new_token(&token, grant, description, now, life)?;
            let useless: Vec<TokenRecord> = accounts.useless(exists, now).cloned().collect();
            (record, useless)
        };
        let (mut write, mut undo) = (Changes::default(), Changes::default());
        write.put(&record.id, &record);
        undo.remove::<TokenRecord>(&record.id);
        for one in &useless {
            write.remove::<TokenRecord>(&one.id);
            undo.put(&one.id, one);
        }
        self.store(write, undo).await?;
        let mut accounts = self.accounts();
        for one in &useless {
            accounts.set_token(&one.id, None);
        }
        accounts.set_token(&record.id, Some(record.clone()));
        Ok((token, record))
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn remove_token(&self, id: &str) -> Result<TokenRecord, AccessError> {
        let _ordering = self.0.ordering.lock().await;
        let record = self.accounts().token(id)?.clone();
        let (mut write, mut undo) = (Changes::default(), Changes::default());
        write.remove::<TokenRecord>(&record.id);
        undo.put(&record.id, &record);
        self.store(write, undo).await?;
        self.accounts().set_token(id, None);
        Ok(record)
    }

    /// The tokens that a caller may see: those of projects, or of the controller, whose admin it is.
    #[must_use]
    pub fn tokens(&self, caller: &Caller, project: Option<u64>) -> Vec<TokenRecord> {
        let accounts = self.accounts();
        let tokens = accounts.tokens();
        let seen = tokens.filter(|one| {
            caller.role(one.project) >= Some(Role::Admin)
                && project.is_none_or(|project| one.project == Some(project))
        });
        seen.cloned().collect()
    }

    /// The project of a token, which may be none; `None` if there is no such token.
    #[must_use]
    pub fn token_project(&self, id: &str) -> Option<Option<u64>> {
        self.accounts().token(id).ok().map(|record| record.project)
    }

    /// The entries of the audit log that a caller asks for, of those that it may see: of a project, or of all whose admin it is.
    #[must_use]
    pub fn wanted(
        caller: &Caller,
        project: Option<u64>,
        since: Option<jiff::Timestamp>,
        most: Option<u64>,
    ) -> Wanted {
        let most = most.map_or(ENTRIES, |most| usize::try_from(most).unwrap_or(usize::MAX));
        Wanted {
            since,
            projects: project
                .map(|project| vec![project])
                .or_else(|| Self::administered(caller)),
            most: most.clamp(1, MOST_ENTRIES),
        }
    }

    /// The projects whose admin a caller is; `None` is everything.
    fn administered(caller: &Caller) -> Option<Vec<u64>> {
        if caller.role(None) >= Some(Role::Admin) {
            return None;
        }
        let admin = caller.grants.iter().filter(|one| one.role == Role::Admin);
        Some(admin.filter_map(|one| one.project).collect())
    }
}

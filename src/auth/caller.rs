//! The authenticated caller.

use std::sync::Arc;

use super::{Limits, Role};
use crate::ids::Sha256Hex;

/// The authenticated caller. A handler that takes one cannot be reached without a valid key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: Arc<str>,
    pub(crate) hash: Sha256Hex,
    pub(crate) roles: Arc<[Role]>,
    /// Limits of this key that replace those of the policies.
    pub(crate) limits: Arc<Limits>,
}

impl Caller {
    pub(crate) fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether this caller may see a job of `owner`.
    pub(crate) fn can_view(&self, owner: Option<&Sha256Hex>) -> bool {
        self.sees_all_jobs() || owner == Some(&self.hash)
    }

    /// Whether this caller may see every job. Workers process all jobs. A key that also has the role `client` sees only
    /// its own.
    fn sees_all_jobs(&self) -> bool {
        !self.has_role(Role::Client) && (self.has_role(Role::Worker) || self.has_role(Role::Admin))
    }
}

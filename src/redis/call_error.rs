//! Failures of a call, sorted by whether Redis has executed it.

use fred::error::{Error as FredError, ErrorKind};

use crate::error::Error;

/// Whether a call may be sent again after its reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// Executing it twice has the same effect as executing it once.
    Idempotent,
    /// It is sent again only if Redis has certainly not executed it.
    NonIdempotent,
}

/// Why one attempt of a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// Not executed: no connection is up.
    NotConnected,
    /// Not executed: the server is a replica.
    ReadOnly(Error),
    /// Not executed: another server of the cluster owns the keys.
    Moved(Error),
    /// Not executed; another attempt may succeed.
    NotExecuted(Error),
    /// Possibly executed.
    Indeterminate(Error),
    /// Another attempt would fail as well.
    Permanent(Error),
}

impl CallError {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NotConnected => Error::RedisUnavailable("not connected".to_owned()),
            Self::ReadOnly(error)
            | Self::Moved(error)
            | Self::NotExecuted(error)
            | Self::Indeterminate(error)
            | Self::Permanent(error) => error,
        }
    }
}

impl From<FredError> for CallError {
    fn from(error: FredError) -> Self {
        // Redis replies with these before it executes a command, or before the first write of a script; the last one is
        // fred's, for a command without a connection.
        const NOT_EXECUTED: [&str; 7] = [
            "LOADING",
            "MASTERDOWN",
            "NOREPLICAS",
            "TRYAGAIN",
            // A slot is migrating. A script needs all its keys on one server, so it has to wait until that is over.
            "ASK",
            "CLUSTERDOWN",
            "Failed to route command",
        ];
        // fred's errors for lost connections, and the reply to a WAIT on a primary that becomes a replica.
        const INDETERMINATE: [&str; 3] =
            ["Too many failed write attempts", "Missing expected connection", "UNBLOCKED"];
        let starts_with_any =
            |prefixes: &[&str]| prefixes.iter().any(|prefix| error.details().starts_with(prefix));
        if starts_with_any(&["READONLY"]) {
            return Self::ReadOnly(error.into());
        }
        if starts_with_any(&["MOVED"]) {
            return Self::Moved(error.into());
        }
        if starts_with_any(&NOT_EXECUTED) {
            return Self::NotExecuted(error.into());
        }
        if starts_with_any(&INDETERMINATE) {
            return Self::Indeterminate(error.into());
        }
        match error.kind() {
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled => {
                Self::Indeterminate(error.into())
            }
            _ => Self::Permanent(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_sorted_by_whether_the_call_was_executed() {
        let sort = |details: &'static str| FredError::new(ErrorKind::Unknown, details).into();
        assert!(matches!(sort("READONLY You can't write"), CallError::ReadOnly(_)));
        assert!(matches!(sort("MOVED 1 127.0.0.1:1"), CallError::Moved(_)));
        assert!(matches!(sort("LOADING Redis is loading"), CallError::NotExecuted(_)));
        assert!(matches!(sort("UNBLOCKED force unblock"), CallError::Indeterminate(_)));
        assert!(matches!(sort("WRONGTYPE Operation"), CallError::Permanent(_)));
        let lost = FredError::new(ErrorKind::IO, "reset").into();
        assert!(matches!(lost, CallError::Indeterminate(_)));
    }
}

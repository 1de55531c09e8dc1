//! Exit codes, for scripts. What is not named here is 1: it failed. Wrong arguments are 2, which clap says.

use std::{io, process::ExitCode};

/// A failure that a script may want to tell from others.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0:#}")]
    BadConfig(anyhow::Error),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    NotReady(String),
}

const BAD_CONFIG: u8 = 3;
const UNREACHABLE: u8 = 4;
const NOT_READY: u8 = 5;

/// The code for an error, and whether there is anything to say about it.
pub(super) fn code_of(error: &anyhow::Error) -> (ExitCode, bool) {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if io == Some(io::ErrorKind::BrokenPipe) {
        // Whoever reads has seen enough, such as `head`.
        return (ExitCode::SUCCESS, false);
    }
    let is_unreachable = |it: &reqwest::Error| it.is_connect() || it.is_timeout();
    let code = match error.downcast_ref::<Failure>() {
        Some(Failure::BadConfig(_)) => ExitCode::from(BAD_CONFIG),
        Some(Failure::Unreachable(_)) => ExitCode::from(UNREACHABLE),
        Some(Failure::NotReady(_)) => ExitCode::from(NOT_READY),
        None if error.chain().any(|it| it.downcast_ref().is_some_and(is_unreachable)) => {
            ExitCode::from(UNREACHABLE)
        }
        None => ExitCode::FAILURE,
    };
    (code, true)
}

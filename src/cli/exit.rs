//! Exit codes for scripts: 0 success, 1 other errors, 2 invalid arguments (set by clap), 3 to 5 as below.

use std::{io, process::ExitCode};

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
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

/// The exit code of an error, and whether to print its message.
pub(super) fn code_of(error: &anyhow::Error) -> (ExitCode, bool) {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if io == Some(io::ErrorKind::BrokenPipe) {
        // The reader closed the pipe, as `head` does.
        return (ExitCode::SUCCESS, false);
    }
    let is_unreachable = |error: &reqwest::Error| error.is_connect() || error.is_timeout();
    let code = match error.downcast_ref::<CliError>() {
        Some(CliError::BadConfig(_)) => ExitCode::from(BAD_CONFIG),
        Some(CliError::Unreachable(_)) => ExitCode::from(UNREACHABLE),
        Some(CliError::NotReady(_)) => ExitCode::from(NOT_READY),
        None if error.chain().any(|source| source.downcast_ref().is_some_and(is_unreachable)) => {
            ExitCode::from(UNREACHABLE)
        }
        None => ExitCode::FAILURE,
    };
    (code, true)
}

//! `routes` and `completions`: generated from the router and from the command line.

use std::io::Write as _;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    api::{openapi, router},
    config::Config,
};

/// Prints one line per operation, or the whole OpenAPI document.
pub(super) fn print(config: &Config, as_openapi: bool) -> Result<()> {
    let document = router::document(config)?;
    let mut out = std::io::stdout().lock();
    if as_openapi {
        return Ok(writeln!(out, "{document:#}")?);
    }
    for [method, path, roles, summary] in openapi::list(&document) {
        writeln!(out, "{method:7} {path:55} {roles:22} {summary}")?;
    }
    Ok(())
}

/// Prints a completion script for a shell.
pub(super) fn print_completions(shell: Shell) -> Result<()> {
    // Generated in memory, because the generator panics when a write fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "image2model-gateway", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

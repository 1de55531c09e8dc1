//! `routes` and `completions`: what the program knows of itself.

use std::io::Write as _;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    Config,
    api::{openapi, router},
};

/// Prints every operation on a line, or the whole API document.
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

/// Prints a script that completes this program's arguments.
pub(super) fn print_completions(shell: Shell) -> Result<()> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "image2model-gateway", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

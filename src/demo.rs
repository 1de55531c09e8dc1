//! `demo`: creates a job, plays its worker, and prints the stream as a browser would get it.

use std::net::SocketAddr;

use anyhow::Result;

/// What to play.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The running service.
    #[arg(long)]
    url: Option<String>,
}

pub(crate) async fn run(_args: Args, _url: &str) -> Result<()> {
    Ok(())
}

pub(crate) fn welcome(address: SocketAddr) -> String {
    format!("http://{address}\n")
}

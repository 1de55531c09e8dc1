//! The `image2model-gateway` program: reads its arguments and runs the command they name.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    image2model_gateway::cli::Cli::parse().run()
}

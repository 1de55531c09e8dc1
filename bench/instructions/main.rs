//! Counts the instructions of the service's hot paths with callgrind and compares them with `baseline.txt`. Unlike time
//! on a shared machine, instruction counts show a change of ten percent reliably. `make check-instructions` runs it.
//!
//! The paths end where a command would be sent to Redis, which is not running.

#![expect(clippy::unwrap_used, reason = "a failed step fails the measurement")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod baseline;
mod paths;

use std::{
    process::{Command, ExitCode},
    str::FromStr as _,
};

use self::{baseline::Baseline, paths::Path};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // These arguments come from `count`, under callgrind. Arguments from cargo start with an option.
    if let [walk, path, times] = &arguments[..]
        && walk == "walk"
    {
        Path::from_str(path).unwrap().walk(times.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let counted = Path::ALL.map(|path| (path.name(), path.count()));
    if arguments.iter().any(|argument| argument == "--renew") {
        Baseline::renew(&counted);
    }
    if Baseline::read().compare(&counted) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Path {
    /// The mean number of instructions of one walk.
    fn count(self) -> u64 {
        const TIMES: u64 = 200;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=*count_from_here*")
            .arg(std::env::current_exe().unwrap())
            .args(["walk", self.name(), &TIMES.to_string()])
            .output()
            .expect("valgrind is not installed; run scripts/setup valgrind");
        let output_text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {output_text}", self.name());
        let collected = output_text.lines().find_map(|line| line.split_once("Collected : "));
        let collected: u64 =
            collected.expect("callgrind prints the collected count").1.trim().parse().unwrap();
        assert!(collected > TIMES, "{}: no instructions were counted: {output_text}", self.name());
        collected / TIMES
    }
}

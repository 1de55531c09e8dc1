//! Instructions of the service's hot paths, counted by callgrind and compared with `baseline.txt`: time on a shared
//! machine says nothing of a change of a tenth, and this does. `make check-instructions` runs it.
//!
//! The paths end where a command would go to Redis, which is away.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

mod baseline;
mod paths;

use std::{
    process::{Command, ExitCode},
    str::FromStr as _,
};

use self::{baseline::Baseline, paths::Path};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Under callgrind; cargo begins with an option.
    if let [walk, path, times] = &arguments[..]
        && walk == "walk"
    {
        Path::from_str(path).unwrap().walk(times.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let counted = Path::ALL.map(|it| (it.name(), it.count()));
    if arguments.iter().any(|it| it == "--renew") {
        Baseline::renew(&counted);
    }
    if Baseline::read().compare(&counted) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Path {
    /// Instructions of one walk, on average.
    fn count(self) -> u64 {
        const TIMES: u64 = 200;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=*count_from_here*")
            .arg(std::env::current_exe().unwrap())
            .args(["walk", self.name(), &TIMES.to_string()])
            .output()
            .expect("scripts/setup valgrind has installed it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.name());
        let collected = said.lines().find_map(|it| it.split_once("Collected : "));
        let collected: u64 = collected.expect("what was collected").1.trim().parse().unwrap();
        assert!(collected > TIMES, "{}: nothing was counted: {said}", self.name());
        collected / TIMES
    }
}

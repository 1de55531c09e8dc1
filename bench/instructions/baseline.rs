//! The expected instruction counts, in `baseline.txt`.

use std::{collections::BTreeMap, fmt::Write as _, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions/baseline.txt");
/// Random hash seeds and memory layout change a count by one or two percent.
const TOLERANCE_PERCENT: u64 = 5;

pub(crate) struct Baseline(BTreeMap<String, u64>);

impl Baseline {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(FILE).expect("no baseline; create it with RENEW=1");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.trim().parse().unwrap())
        };
        Self(lines.map(parse).collect())
    }

    pub(crate) fn renew(counted: &[(&str, u64)]) {
        let mut text = "# Instructions per walk; see bench/README.md.\n".to_owned();
        for (name, count) in counted {
            writeln!(text, "{name:<14} {count}").unwrap();
        }
        fs::write(FILE, text).unwrap();
    }

    /// Prints both counts per path. Returns whether all are within the tolerance. A lower count fails as well: the
    /// baseline must be renewed after an improvement, so that a later regression is noticed.
    pub(crate) fn compare(&self, counted: &[(&str, u64)]) -> bool {
        println!("{:<14} {:>12} {:>12} {:>8}", "path", "baseline", "now", "change");
        let mut is_ok = self.0.len() == counted.len();
        for (name, now) in counted {
            let Some(before) = self.0.get(*name) else {
                println!("{name:<14} {:>12} {now:>12}  not in the baseline", "-");
                is_ok = false;
                continue;
            };
            let is_close = before.abs_diff(*now) * 100 <= before * TOLERANCE_PERCENT;
            is_ok &= is_close;
            #[expect(clippy::cast_precision_loss, reason = "rounded for display")]
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let note = if is_close { "" } else { "  NOT WITHIN 5 %" };
            println!("{name:<14} {before:>12} {now:>12} {change:>+7.1}%{note}");
        }
        is_ok
    }
}

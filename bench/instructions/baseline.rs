//! The counts that are expected, in a file of the repository.

use std::{collections::BTreeMap, fmt::Write as _, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions/baseline.txt");
/// Hashes of random seeds and the layout of memory make a percent or two.
const TOLERANCE_PERCENT: u64 = 5;

pub(crate) struct Baseline(BTreeMap<String, u64>);

impl Baseline {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(FILE).expect("a baseline; RENEW=1 makes one");
        let lines = text.lines().filter(|it| !it.starts_with('#'));
        let parse = |line: &str| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.trim().parse().unwrap())
        };
        Self(lines.map(parse).collect())
    }

    pub(crate) fn renew(counted: &[(&str, u64)]) {
        let mut text = "# Instructions a walk; see bench/README.md.\n".to_owned();
        for (name, count) in counted {
            writeln!(text, "{name:<14} {count}").unwrap();
        }
        fs::write(FILE, text).unwrap();
    }

    /// Prints both, and says whether each is as expected. Less is no better: whoever saved something renews the
    /// baseline, so that it cannot be lost again unnoticed.
    pub(crate) fn compare(&self, counted: &[(&str, u64)]) -> bool {
        println!("{:<14} {:>12} {:>12} {:>8}", "path", "baseline", "now", "change");
        let mut is_well = self.0.len() == counted.len();
        for (name, now) in counted {
            let Some(before) = self.0.get(*name) else {
                println!("{name:<14} {:>12} {now:>12}  not in the baseline", "-");
                is_well = false;
                continue;
            };
            let is_near = before.abs_diff(*now) * 100 <= before * TOLERANCE_PERCENT;
            is_well &= is_near;
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let verdict = if is_near { "" } else { "  NOT WITHIN 5 %" };
            println!("{name:<14} {before:>12} {now:>12} {change:>+7.1}%{verdict}");
        }
        is_well
    }
}

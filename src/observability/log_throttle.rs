//! Rate-limits a log message so that an attacker cannot flood the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two messages.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct LogThrottle(Mutex<State>);

#[derive(Default)]
struct State {
    last_logged: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// If the message should be logged now: the number of occurrences since it was last logged, including this one.
    pub(crate) fn should_log(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.suppressed += 1;
        if state.last_logged.is_some_and(|at| at.elapsed() < INTERVAL) {
            return None;
        }
        state.last_logged = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_a_burst_is_logged() {
        let seldom = LogThrottle::default();
        assert_eq!([(); 3].map(|()| seldom.should_log()), [Some(1), None, None]);
    }
}

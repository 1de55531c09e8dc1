//! Says that something goes on, and not at each request: a log that an attacker can fill is one more thing to attack.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
const BETWEEN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// If it is time to say it again: how often it happened since it was last said, this time included.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.unsaid += 1;
        if state.last.is_some_and(|it| it.elapsed() < BETWEEN) {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once() {
        let seldom = Seldom::default();
        assert_eq!([(); 3].map(|()| seldom.due()), [Some(1), None, None]);
    }
}

//! How callers stand with the policies after a request, and what of it they are told.

use std::time::Duration;

use super::{Charge, store};

/// How a caller stands with one policy after a request.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) policy: String,
    pub(crate) limit: u64,
    pub(crate) window: Duration,
    pub(crate) remaining: u64,
    /// Until the whole limit is back; of a refused request, until it may come again.
    pub(crate) wait: Duration,
    /// The same in Unix seconds.
    pub(crate) reset_at: u64,
    pub(crate) is_refused: bool,
}

#[derive(Default)]
pub(crate) struct Standings {
    pub(crate) of: Vec<Standing>,
    /// Redis was not asked, or did not answer.
    pub(crate) is_degraded: bool,
}

impl Standings {
    /// The policy that the caller meets first.
    pub(crate) fn tightest(&self) -> Option<&Standing> {
        // Of those that refuse the one that refuses longest, else the one with the least left.
        let refusing = self.of.iter().filter(|it| it.is_refused).max_by_key(|it| it.wait);
        refusing.or_else(|| self.of.iter().min_by_key(|it| it.remaining))
    }
}

impl Charge<'_> {
    /// How this policy stands before anything is known.
    pub(crate) fn unspent(&self) -> Standing {
        Standing {
            policy: self.policy.name.clone(),
            limit: self.limit,
            window: self.policy.window,
            remaining: self.limit,
            wait: Duration::ZERO,
            reset_at: 0,
            is_refused: false,
        }
    }
}

pub(crate) fn standings(charges: &[Charge<'_>], answer: &store::Answer) -> Standings {
    let of = charges.iter().zip(&answer.counts).map(|(charge, count)| {
        let is_refused = !count.retry.is_zero();
        let wait = if is_refused { count.retry } else { count.reset };
        Standing {
            remaining: count.remaining,
            wait,
            reset_at: unix_secs(answer.now_ms, wait),
            is_refused,
            ..charge.unspent()
        }
    });
    Standings { of: of.collect(), is_degraded: false }
}

/// The second by which `wait` is over.
pub(crate) fn unix_secs(now_ms: u64, wait: Duration) -> u64 {
    (now_ms + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2)).div_ceil(1000)
}

/// Whole seconds that are not too few.
pub(crate) fn ceil_secs(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

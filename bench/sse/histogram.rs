//! A histogram of latencies with a resolution of three percent.

/// Number of buckets per power of two.
const BUCKETS_PER_OCTAVE: u32 = 32;

pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; bucket_of(u64::MAX) + 1], total: 0 }
    }

    pub(crate) fn add(&mut self, us: u64) {
        self.counts[bucket_of(us)] += 1;
        self.total += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The quantile `share` (0 to 1) in milliseconds; NaN if the histogram is empty.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= rank.max(1) {
                return value_of(bucket) as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}

fn bucket_of(us: u64) -> usize {
    let per_octave = u64::from(BUCKETS_PER_OCTAVE);
    if us < per_octave {
        return us as usize;
    }
    let shift = us.ilog2() - BUCKETS_PER_OCTAVE.ilog2();
    (u64::from(shift + 1) * per_octave + ((us >> shift) - per_octave)) as usize
}

fn value_of(bucket: usize) -> u64 {
    let (per_octave, bucket) = (u64::from(BUCKETS_PER_OCTAVE), bucket as u64);
    if bucket < per_octave {
        return bucket;
    }
    let shift = bucket / per_octave - 1;
    (per_octave + bucket % per_octave) << shift
}

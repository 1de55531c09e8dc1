//! Latencies, counted in buckets of three percent.

/// Buckets for each power of two.
const FINENESS: u32 = 32;

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

    /// The latency in milliseconds that `share` of all do not exceed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted.max(1) {
                return value_of(bucket) as f64 / 1000.0;
            }
        }
        f64::NAN
    }
}

fn bucket_of(us: u64) -> usize {
    let fineness = u64::from(FINENESS);
    if us < fineness {
        return us as usize;
    }
    let shift = us.ilog2() - FINENESS.ilog2();
    (u64::from(shift + 1) * fineness + ((us >> shift) - fineness)) as usize
}

fn value_of(bucket: usize) -> u64 {
    let (fineness, bucket) = (u64::from(FINENESS), bucket as u64);
    if bucket < fineness {
        return bucket;
    }
    let shift = bucket / fineness - 1;
    (fineness + bucket % fineness) << shift
}

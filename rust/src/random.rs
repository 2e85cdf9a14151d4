//! Random streams keyed by work item: a resample's draws depend on the seed and its number, not on who made it when.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Source of the streams of one seed; ChaCha with 8 rounds, a counter-based generator with 2⁶⁴ streams for each key.
pub struct Streams(ChaCha8Rng);

impl Streams {
    /// Streams of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The stream of one work item, from its beginning.
    pub fn stream(&self, item: u64) -> Stream {
        let mut generator = self.0.clone();
        generator.set_stream(item);
        generator.set_word_pos(0);
        Stream(generator)
    }
}

/// A stream of random numbers.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// A uniform integer below `bound` (> 0), without bias (Lemire 2019).
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        let mut product = u64::from(self.0.next_u32()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.0.next_u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }
}

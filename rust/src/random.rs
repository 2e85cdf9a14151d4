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
        loop {
            if let Some(value) = lemire(self.0.next_u32(), bound) {
                return value;
            }
        }
    }

    /// Draws `counts.len()` times with replacement from as many items and counts how often each was drawn.
    pub fn resample(&mut self, counts: &mut [u32]) {
        counts.fill(0);
        let size = counts.len();
        if size > SMALL {
            for _ in 0..size {
                counts[self.below(size as u32) as usize] += 1;
            }
            return;
        }
        // Sixteen bits are enough for a few items, and half the random bits cost half the time.
        let mut bytes = [0; 1024];
        let mut left = size;
        while left > 0 {
            let taken = left.min(bytes.len() / 2);
            self.0.fill_bytes(&mut bytes[..2 * taken]);
            for pair in bytes[..2 * taken].as_chunks::<2>().0 {
                if let Some(value) = lemire_small(u16::from_le_bytes(*pair), size as u16) {
                    counts[usize::from(value)] += 1;
                    left -= 1;
                }
            }
        }
    }
}

/// Sizes up to this are drawn from 16 bits: of those at most an eighth is rejected.
const SMALL: usize = 1 << 13;

/// `bits`·bound / 2³², or None for the few values that would make some results likelier than others.
#[inline]
fn lemire(bits: u32, bound: u32) -> Option<u32> {
    let product = u64::from(bits) * u64::from(bound);
    let low = product as u32;
    (low >= bound || low >= bound.wrapping_neg() % bound).then_some((product >> 32) as u32)
}

/// The same from sixteen bits.
#[inline]
fn lemire_small(bits: u16, bound: u16) -> Option<u16> {
    let product = u32::from(bits) * u32::from(bound);
    let low = product as u16;
    (low >= bound || low >= bound.wrapping_neg() % bound).then_some((product >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_give_every_value_equally_often() {
        for bound in [1, 2, 3, 500, 572, 8191, 8192] {
            let mut times = vec![0; usize::from(bound)];
            (0..=u16::MAX)
                .filter_map(|bits| lemire_small(bits, bound))
                .for_each(|value| times[usize::from(value)] += 1);
            assert!(times.iter().all(|count| *count == (1 << 16) / u32::from(bound)), "{bound}");
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draws = |seed, item| {
            let mut counts = [0; 100];
            Streams::new(seed).stream(item).resample(&mut counts);
            counts
        };
        assert_eq!(draws(1, 2), draws(1, 2));
        assert_ne!(draws(1, 2), draws(1, 3));
        assert_ne!(draws(1, 2), draws(2, 2));
    }

    #[test]
    fn a_resample_has_its_size_and_is_uniform() {
        for size in [1, 5, 1000, SMALL, SMALL + 1] {
            let (mut sum, mut squares) = (0, 0);
            let resamples = 200;
            for item in 0..resamples {
                let mut counts = vec![0; size];
                Streams::new(7).stream(item).resample(&mut counts);
                sum += counts.iter().sum::<u32>() as usize;
                squares += counts.iter().map(|count| (count * count) as usize).sum::<usize>();
            }
            let draws = size * resamples as usize;
            assert_eq!(sum, draws);
            // E[count²] = 2 - 1/n for a multinomial of n draws from n items.
            let expected = 2.0 - 1.0 / size as f64;
            let error = squares as f64 / draws as f64 - expected;
            assert!(error.abs() < 6.0 * (2.0 / draws as f64).sqrt(), "{size}: {error}");
        }
    }
}

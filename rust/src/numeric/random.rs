//! Random streams keyed by work item: a resample's draws depend on the seed and its number, not on who made it when.

/// Resamples whose counts lie side by side.
pub const SIDE: usize = 8;

/// How often a unit is drawn in each of `SIDE` resamples. A unit that is drawn 2¹⁶ times among as many draws as units
/// has a probability below 1 / 65536!.
pub type Counts = [u16; SIDE];

/// Source of the streams of one seed.
pub struct Streams(u64);

impl Streams {
    /// Streams of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    /// The stream of one work item, from its beginning.
    #[inline]
    pub fn stream(&self, item: u64) -> Stream {
        Stream(mixed(self.0.wrapping_add(item)))
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What SplitMix64 gives in a state.
#[inline(always)]
fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers: SplitMix64 (Steele, Lea & Flood 2014), a hash of a counter that passes TestU01's
/// BigCrush. Its period is 2⁶⁴ and streams begin at hashed places of it: that two of a thousand streams of a thousand
/// numbers overlap has a probability below 10⁻¹⁰.
pub struct Stream(u64);

impl Stream {
    #[inline(always)]
    fn word(&mut self) -> u64 {
        let word = mixed(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        word
    }

    /// A uniform number in [0, 1), of 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws `counts.len()` times with replacement from as many items, fewer than 2³², and adds to column `place` how
    /// often each was drawn. Every item is equally likely (Lemire 2019).
    #[inline(always)]
    pub fn resample(&mut self, counts: &mut [Counts], place: usize) {
        if counts.len() > SMALL {
            self.resample_many(counts, place);
        } else {
            self.resample_few(counts, place);
        }
    }

    /// Sixteen random bits for each draw, so many at a time that loops without a branch fill vectors.
    #[inline(always)]
    fn resample_few(&mut self, counts: &mut [Counts], place: usize) {
        const WORDS: usize = 64;
        const BLOCK: usize = 32;
        let bound = counts.len() as u16;
        let mut left = counts.len();
        let mut words = [[0; 8]; WORDS];
        let (mut drawn, mut low) = ([0; 4 * WORDS], [0; 4 * WORDS]);
        while left > 0 {
            let taken = left.min(drawn.len());
            for word in &mut words[..taken.div_ceil(4)] {
                *word = self.word().to_le_bytes();
            }
            let bits = words.as_flattened().as_chunks::<2>().0;
            for i in 0..taken.next_multiple_of(4) {
                (drawn[i], low[i]) = multiplied(u16::from_le_bytes(bits[i]), bound);
            }
            for item in &drawn[..taken] {
                counts[usize::from(*item)][place] += 1;
            }
            left -= taken;
            // Rejections are rare: they are taken back.
            let least = bound.wrapping_neg() % bound;
            for (drawn, low) in drawn[..taken].chunks(BLOCK).zip(low.chunks(BLOCK)) {
                let rejected = low[..drawn.len()].iter().fold(false, |any, low| any | (*low < least));
                if rejected {
                    for (item, _) in drawn.iter().zip(low).filter(|(_, low)| **low < least) {
                        counts[usize::from(*item)][place] -= 1;
                        left += 1;
                    }
                }
            }
        }
    }

    /// Thirty-two random bits for each draw.
    #[inline(always)]
    fn resample_many(&mut self, counts: &mut [Counts], place: usize) {
        let bound = counts.len() as u32;
        let least = bound.wrapping_neg() % bound;
        let mut left = counts.len();
        while left > 0 {
            let word = self.word();
            for bits in [word as u32, (word >> 32) as u32] {
                let product = u64::from(bits) * u64::from(bound);
                if product as u32 >= least && left > 0 {
                    counts[(product >> 32) as usize][place] += 1;
                    left -= 1;
                }
            }
        }
    }
}

/// Sizes up to this are drawn from 16 bits: of those at most an eighth is rejected.
const SMALL: usize = 1 << 13;

/// `bits`·bound / 2¹⁶ and the remainder, which tells the few values that would make some results likelier than others.
#[inline(always)]
fn multiplied(bits: u16, bound: u16) -> (u16, u16) {
    (((u32::from(bits) * u32::from(bound)) >> 16) as u16, bits.wrapping_mul(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_give_every_value_equally_often() {
        for bound in [1, 2, 3, 500, 572, 8191, 8192] {
            let least = (1 << 16) % u32::from(bound);
            let mut times = vec![0; usize::from(bound)];
            (0..=u16::MAX)
                .map(|bits| multiplied(bits, bound))
                .filter(|(_, low)| u32::from(*low) >= least)
                .for_each(|(value, _)| times[usize::from(value)] += 1);
            assert!(times.iter().all(|count| *count == (1 << 16) / u32::from(bound)), "{bound}");
        }
    }

    /// The first outputs of Vigna's C code for the state 1234567.
    #[test]
    fn a_stream_is_splitmix64() {
        let mut stream = Stream(1_234_567);
        for expected in [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ] {
            assert_eq!(stream.word(), expected);
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draws = |seed, item| {
            let mut counts = [[0; SIDE]; 100];
            Streams::new(seed).stream(item).resample(&mut counts, 3);
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
                let mut counts = vec![[0; SIDE]; size];
                Streams::new(7).stream(item).resample(&mut counts, 5);
                sum += counts.iter().map(|count| usize::from(count[5])).sum::<usize>();
                squares += counts.iter().map(|count| usize::from(count[5]).pow(2)).sum::<usize>();
                assert!(counts.iter().all(|count| count.iter().sum::<u16>() == count[5]));
            }
            let draws = size * resamples as usize;
            assert_eq!(sum, draws);
            // E[count²] = 2 - 1/n for a multinomial of n draws from n items.
            let expected = 2.0 - 1.0 / size as f64;
            let error = squares as f64 / draws as f64 - expected;
            assert!(error.abs() < 6.0 * (2.0 / draws as f64).sqrt(), "{size}: {error}");
        }
    }

    /// Pearson's statistic of an item's counts over many streams, and of two items' common ones, within five standard
    /// deviations of what independent uniform draws give.
    #[test]
    fn items_are_equally_likely_within_and_across_streams() {
        const SIZE: usize = 37;
        let resamples = 20_000;
        let mut totals = [0.0; SIZE];
        let mut products = [0.0; SIZE];
        for item in 0..resamples {
            let mut counts = [[0; SIDE]; SIZE];
            Streams::new(11).stream(item).resample(&mut counts, 0);
            for i in 0..SIZE {
                totals[i] += f64::from(counts[i][0]);
                products[i] += (f64::from(counts[i][0]) - 1.0) * (f64::from(counts[(i + 1) % SIZE][0]) - 1.0);
            }
        }
        let resamples = resamples as f64;
        let pearson: f64 = totals.iter().map(|total| (total - resamples).powi(2) / resamples).sum();
        let freedom = (SIZE - 1) as f64;
        assert!((pearson - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{pearson}");
        for product in products {
            // The covariance of two counts is -1/n; their product's standard deviation is about 1.
            assert!((product / resamples + 1.0 / SIZE as f64).abs() < 5.0 / resamples.sqrt());
        }
    }
}

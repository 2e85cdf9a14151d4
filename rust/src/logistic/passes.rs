//! Passes over the rows of a fit: gradient, curvature and loss of the logistic loss at given weights.
//!
//! Rows are stored 64 at a time, feature by feature, so that every loop runs over neighbouring values and the compiler
//! vectorises it. Sums run in eight lanes, whatever the instruction set.

const CHUNK: usize = 64;
const LANES: usize = 8;
/// Rows whose logits stay in registers while the features are added.
const BLOCK: usize = 16;

type Chunk = [f64; CHUNK];
type Lanes = [f64; LANES];

/// Rows of one class: [chunks][features][64], filled up with zeros.
pub struct Columns {
    rows: usize,
    features: usize,
    chunks: Vec<Chunk>,
}

impl Columns {
    /// The rows of `values` [rows, features] that are of a class.
    pub fn new(values: &[f64], labels: &[bool], features: usize, class: bool) -> Self {
        let chosen: Vec<&[f64]> = values
            .chunks_exact(features)
            .zip(labels)
            .filter(|(_, label)| **label == class)
            .map(|(row, _)| row)
            .collect();
        let mut chunks = vec![[0.0; CHUNK]; chosen.len().div_ceil(CHUNK) * features];
        for (row, values) in chosen.iter().enumerate() {
            for (feature, value) in values.iter().enumerate() {
                chunks[row / CHUNK * features + feature][row % CHUNK] = *value;
            }
        }
        Self { rows: chosen.len(), features, chunks }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// (valid rows, features) of each chunk.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, &[Chunk])> {
        let chunks = self.chunks.chunks_exact(self.features).enumerate();
        chunks.map(|(index, chunk)| (CHUNK.min(self.rows - index * CHUNK), chunk))
    }
}

/// Rows of one class with their target (1 harmful, 0 harmless) and weight.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The rows.
    pub columns: &'a Columns,
    /// What the probability should be.
    pub target: f64,
    /// Weight of each row in the loss.
    pub weight: f64,
}

/// Σ r and Σ r·x over rows, r being weight × (probability - target).
pub struct Gradient {
    /// Derivative for the bias.
    pub bias: f64,
    /// Derivative for each weight.
    pub weights: Vec<f64>,
}

/// Second derivatives: Σ h, Σ h·x and the upper triangle of Σ h·x·xᵀ, row by row, h being weight × p(1 - p).
pub struct Curvature {
    /// For the bias.
    pub bias: f64,
    /// Between bias and weights.
    pub mixed: Vec<f64>,
    /// Between weights.
    pub weights: Vec<f64>,
}

impl Gradient {
    /// Adds `weight` × another one.
    pub fn add(&mut self, other: &Self, weight: f64) {
        self.bias += weight * other.bias;
        add(&mut self.weights, &other.weights, weight);
    }
}

impl Curvature {
    /// Adds `weight` × another one.
    pub fn add(&mut self, other: &Self, weight: f64) {
        self.bias += weight * other.bias;
        add(&mut self.mixed, &other.mixed, weight);
        add(&mut self.weights, &other.weights, weight);
    }
}

fn add(sums: &mut [f64], values: &[f64], weight: f64) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
}

/// Calls a body compiled for AVX2 with FMA where the machine has them, else the plain one.
macro_rules! dispatch {
    ($body:ident($parts:ident, $weights:ident, $bias:ident)) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the machine has the instructions.
                return unsafe { avx2::$body($parts, $weights, $bias) };
            }
        }
        $body::<false>($parts, $weights, $bias)
    }};
}

/// Gradient over all parts.
pub fn gradient(parts: &[Part], weights: &[f64], bias: f64) -> Gradient {
    dispatch!(gradient_body(parts, weights, bias))
}

/// Gradient and curvature over all parts.
pub fn curvature(parts: &[Part], weights: &[f64], bias: f64) -> (Gradient, Curvature) {
    dispatch!(curvature_body(parts, weights, bias))
}

/// Weighted logistic loss, summed over all parts.
pub fn loss(parts: &[Part], weights: &[f64], bias: f64) -> f64 {
    dispatch!(loss_body(parts, weights, bias))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Curvature, Gradient, Part};

    #[target_feature(enable = "avx2,fma")]
    pub fn gradient_body(parts: &[Part], weights: &[f64], bias: f64) -> Gradient {
        super::gradient_body::<true>(parts, weights, bias)
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn curvature_body(parts: &[Part], weights: &[f64], bias: f64) -> (Gradient, Curvature) {
        super::curvature_body::<true>(parts, weights, bias)
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn loss_body(parts: &[Part], weights: &[f64], bias: f64) -> f64 {
        super::loss_body::<true>(parts, weights, bias)
    }
}

#[inline(always)]
fn gradient_body<const FMA: bool>(parts: &[Part], weights: &[f64], bias: f64) -> Gradient {
    let mut sums = vec![[0.0; LANES]; weights.len()];
    let mut total = [0.0; LANES];
    for part in parts {
        for (valid, chunk) in part.columns.iter() {
            let residuals = residuals::<FMA>(part, &logits::<FMA>(chunk, weights, bias), valid);
            sum_into(&mut total, &residuals);
            for (sum, values) in sums.iter_mut().zip(chunk) {
                dot_into::<FMA>(sum, &residuals, values);
            }
        }
    }
    Gradient { bias: reduce(&total), weights: sums.iter().map(reduce).collect() }
}

#[inline(always)]
fn curvature_body<const FMA: bool>(parts: &[Part], weights: &[f64], bias: f64) -> (Gradient, Curvature) {
    let features = weights.len();
    let mut first = vec![[0.0; LANES]; features];
    let mut mixed = vec![[0.0; LANES]; features];
    let mut second = vec![[0.0; LANES]; features * (features + 1) / 2];
    let (mut total, mut total_second) = ([0.0; LANES], [0.0; LANES]);
    for part in parts {
        for (valid, chunk) in part.columns.iter() {
            let z = logits::<FMA>(chunk, weights, bias);
            let residuals = residuals::<FMA>(part, &z, valid);
            let mut spread = [0.0; CHUNK];
            for i in 0..CHUNK {
                // p(1 - p) from exp(-|z|), which neither cancels nor overflows.
                let e = exp::<FMA>(-z[i].abs());
                spread[i] = part.weight * e / ((1.0 + e) * (1.0 + e));
            }
            spread[valid..].fill(0.0);
            sum_into(&mut total, &residuals);
            sum_into(&mut total_second, &spread);
            let mut index = 0;
            for j in 0..features {
                dot_into::<FMA>(&mut first[j], &residuals, &chunk[j]);
                let mut weighted = [0.0; CHUNK];
                for i in 0..CHUNK {
                    weighted[i] = spread[i] * chunk[j][i];
                }
                sum_into(&mut mixed[j], &weighted);
                for k in j..features {
                    dot_into::<FMA>(&mut second[index], &weighted, &chunk[k]);
                    index += 1;
                }
            }
        }
    }
    let lanes = |sums: Vec<Lanes>| sums.iter().map(reduce).collect();
    (
        Gradient { bias: reduce(&total), weights: lanes(first) },
        Curvature { bias: reduce(&total_second), mixed: lanes(mixed), weights: lanes(second) },
    )
}

/// Per row: log(1 + eᶻ) - target·z, written as max(z, 0) + log(1 + e^-|z|) - target·z. The logarithms of eight rows are
/// one logarithm of their product, which lies between 1 and 2⁸.
#[inline(always)]
fn loss_body<const FMA: bool>(parts: &[Part], weights: &[f64], bias: f64) -> f64 {
    let mut total = 0.0;
    for part in parts {
        let mut sum = 0.0;
        for (valid, chunk) in part.columns.iter() {
            let z = logits::<FMA>(chunk, weights, bias);
            let mut linear = [0.0; CHUNK];
            let mut factors = [0.0; CHUNK];
            for i in 0..CHUNK {
                linear[i] = z[i].max(0.0) - part.target * z[i];
                factors[i] = 1.0 + exp::<FMA>(-z[i].abs());
            }
            linear[valid..].fill(0.0);
            factors[valid..].fill(1.0);
            let (mut lanes, mut products) = ([0.0; LANES], [1.0; LANES]);
            sum_into(&mut lanes, &linear);
            for eight in factors.chunks_exact(LANES) {
                for lane in 0..LANES {
                    products[lane] *= eight[lane];
                }
            }
            sum += reduce(&lanes) + products.iter().map(|product: &f64| product.ln()).sum::<f64>();
        }
        total += part.weight * sum;
    }
    total
}

#[inline(always)]
fn logits<const FMA: bool>(chunk: &[Chunk], weights: &[f64], bias: f64) -> Chunk {
    let mut z = [0.0; CHUNK];
    for (block, z) in z.chunks_exact_mut(BLOCK).enumerate() {
        let mut sums = [bias; BLOCK];
        for (values, &weight) in chunk.iter().zip(weights) {
            let values = &values[block * BLOCK..][..BLOCK];
            for i in 0..BLOCK {
                sums[i] = multiply_add::<FMA>(values[i], weight, sums[i]);
            }
        }
        z.copy_from_slice(&sums);
    }
    z
}

#[inline(always)]
fn residuals<const FMA: bool>(part: &Part, z: &Chunk, valid: usize) -> Chunk {
    let mut residuals = [0.0; CHUNK];
    for i in 0..CHUNK {
        residuals[i] = part.weight * (1.0 / (1.0 + exp::<FMA>(-z[i])) - part.target);
    }
    residuals[valid..].fill(0.0);
    residuals
}

#[inline(always)]
fn sum_into(lanes: &mut Lanes, values: &Chunk) {
    for eight in values.chunks_exact(LANES) {
        for lane in 0..LANES {
            lanes[lane] += eight[lane];
        }
    }
}

#[inline(always)]
fn dot_into<const FMA: bool>(lanes: &mut Lanes, a: &Chunk, b: &Chunk) {
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] = multiply_add::<FMA>(a[lane], b[lane], lanes[lane]);
        }
    }
}

fn reduce(lanes: &Lanes) -> f64 {
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}

#[inline(always)]
fn multiply_add<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    // Without the instruction `mul_add` would call a slow library function.
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// eˣ to 2 units in the last place, without a branch or a table, for |x| ≤ 708 (larger ones are clipped there).
#[inline(always)]
fn exp<const FMA: bool>(x: f64) -> f64 {
    // Adding 1.5·2⁵² rounds to an integer and leaves it in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // Taylor's coefficients of even and of odd powers: two chains of operations that don't wait for each other.
    const EVEN: [f64; 6] = [1.0 / 3_628_800.0, 1.0 / 40_320.0, 1.0 / 720.0, 1.0 / 24.0, 0.5, 1.0];
    const ODD: [f64; 5] = [1.0 / 362_880.0, 1.0 / 5_040.0, 1.0 / 120.0, 1.0 / 6.0, 1.0];
    let x = x.clamp(-708.0, 708.0);
    let shifted = multiply_add::<FMA>(x, std::f64::consts::LOG2_E, SHIFT);
    let whole = shifted - SHIFT;
    let rest = multiply_add::<FMA>(whole, -LN2_LOW, multiply_add::<FMA>(whole, -LN2_HIGH, x));
    let square = rest * rest;
    let (mut even, mut odd) = (1.0 / 479_001_600.0, 1.0 / 39_916_800.0);
    for term in EVEN {
        even = multiply_add::<FMA>(even, square, term);
    }
    for term in ODD {
        odd = multiply_add::<FMA>(odd, square, term);
    }
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0_f64.to_bits()));
    multiply_add::<FMA>(odd, rest, even) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_agrees_with_the_standard_library() {
        for step in -70_000..=70_000 {
            let x = f64::from(step) * 0.0101;
            for ours in [exp::<true>(x), exp::<false>(x)] {
                assert!((ours / x.exp() - 1.0).abs() < 4.5e-16, "exp({x}) = {ours}");
            }
        }
        assert!(exp::<false>(-1e9) < 1e-300 && exp::<false>(1e9).is_finite());
    }

    #[test]
    fn plain_and_fused_bodies_agree() {
        let values: Vec<f64> = (0..150 * 3).map(|i| f64::from(i * 7919 % 1000) / 300.0 - 1.5).collect();
        let labels: Vec<bool> = (0..150).map(|i| i % 3 == 0).collect();
        let columns = [true, false].map(|class| Columns::new(&values, &labels, 3, class));
        let parts = [
            Part { columns: &columns[0], target: 1.0, weight: 2.0 },
            Part { columns: &columns[1], target: 0.0, weight: 1.0 },
        ];
        let weights = [0.3, -2.0, 11.0];
        let (a, b) = (gradient_body::<true>(&parts, &weights, 0.1), gradient_body::<false>(&parts, &weights, 0.1));
        assert!((a.bias - b.bias).abs() < 1e-12);
        a.weights.iter().zip(&b.weights).for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
        let (a, b) = (loss_body::<true>(&parts, &weights, 0.1), loss_body::<false>(&parts, &weights, 0.1));
        assert!((a / b - 1.0).abs() < 1e-13);
    }
}

//! From replicates to an interval.

use std::ops::Range;

use crate::normal;

/// Quantiles of the replicates; NaN replicates are left out.
pub fn percentile(replicates: Vec<f64>, confidence: f64) -> (f64, f64) {
    let sorted = sorted(replicates);
    let tail = (1.0 - confidence) / 2.0;
    (quantile(&sorted, tail), quantile(&sorted, 1.0 - tail))
}

/// Bias-corrected and accelerated interval (Efron 1987, equation 6.8), ties of replicate and estimate counted half.
///
/// Where all replicates lie on one side of the estimate, the bias correction takes half a replicate on the other.
pub fn bca(replicates: Vec<f64>, estimate: f64, acceleration: f64, confidence: f64) -> (f64, f64) {
    let sorted = sorted(replicates);
    if sorted.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let below = sorted.partition_point(|value| *value < estimate);
    let up_to = sorted.partition_point(|value| *value <= estimate);
    let n = sorted.len() as f64;
    let share = ((below + up_to) as f64 / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal::quantile(share);
    let tail = (1.0 - confidence) / 2.0;
    let end = |tail: f64| {
        let shifted = bias + normal::quantile(tail);
        let level = normal::cdf(bias + shifted / (1.0 - acceleration * shifted));
        quantile(&sorted, level)
    };
    (end(tail), end(1.0 - tail))
}

/// Acceleration from `changes`: the metric without a unit minus the metric with all, unit by unit.
///
/// Skewness of the influence of units, each stratum being a sample of its own (Davison & Hinkley 1997, section 5.3.2).
/// 0 where leaving out a unit leaves no class, or changes nothing.
pub fn acceleration(changes: &[f64], strata: &[Range<usize>]) -> f64 {
    let (mut cubes, mut squares) = (0.0, 0.0);
    for stratum in strata {
        let changes = &changes[stratum.clone()];
        let n = changes.len() as f64;
        let mean = changes.iter().sum::<f64>() / n;
        // Influence (n - 1)(mean - change), each stratum's moments scaled by its size.
        let scale = (n - 1.0) / n;
        for change in changes {
            let influence = scale * (mean - change);
            squares += influence * influence;
            cubes += influence * influence * influence;
        }
    }
    let acceleration = cubes / (6.0 * squares.powf(1.5));
    if acceleration.is_finite() { acceleration } else { 0.0 }
}

fn sorted(mut replicates: Vec<f64>) -> Vec<f64> {
    replicates.retain(|value| !value.is_nan());
    replicates.sort_unstable_by(f64::total_cmp);
    replicates
}

/// Quantile with linear interpolation (type 7, numpy's default).
fn quantile(sorted: &[f64], level: f64) -> f64 {
    if sorted.is_empty() || level.is_nan() {
        return f64::NAN;
    }
    let position = level.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

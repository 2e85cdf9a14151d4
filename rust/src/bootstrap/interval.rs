//! From replicates to an interval.

use std::ops::Range;

use crate::numeric::normal;

/// Quantiles of the replicates; NaN replicates are left out.
pub fn percentile(mut replicates: Vec<f64>, confidence: f64) -> (f64, f64) {
    replicates.retain(|value| !value.is_nan());
    let tail = (1.0 - confidence) / 2.0;
    (quantile(&mut replicates, tail), quantile(&mut replicates, 1.0 - tail))
}

/// Bias-corrected and accelerated interval (Efron 1987, equation 6.8), ties of replicate and estimate counted half.
///
/// Where all replicates lie on one side of the estimate, the bias correction takes half a replicate on the other.
pub fn bca(mut replicates: Vec<f64>, estimate: f64, acceleration: f64, confidence: f64) -> (f64, f64) {
    replicates.retain(|value| !value.is_nan());
    if replicates.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let below = replicates.iter().filter(|value| **value < estimate).count();
    let up_to = replicates.iter().filter(|value| **value <= estimate).count();
    let n = replicates.len() as f64;
    let share = ((below + up_to) as f64 / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal::quantile(share);
    let tail = (1.0 - confidence) / 2.0;
    let mut end = |tail: f64| {
        let shifted = bias + normal::quantile(tail);
        let level = normal::cdf(bias + shifted / (1.0 - acceleration * shifted));
        quantile(&mut replicates, level)
    };
    (end(tail), end(1.0 - tail))
}

/// Bootstrap-t interval (Efron & Tibshirani 1993, chapter 12) from replicates with their standard errors.
///
/// Replicates that are NaN or whose standard error vanishes beside that of the estimate are left out. Without a
/// standard error of the estimate the interval has length 0.
pub fn studentized(
    replicates: impl Iterator<Item = (f64, f64)>,
    estimate: f64,
    error: f64,
    confidence: f64,
) -> (f64, f64) {
    if error == 0.0 {
        return (estimate, estimate);
    }
    let kept = replicates.filter(|(_, own)| *own > VANISHING * error);
    let (low, high) = percentile(kept.map(|(value, own)| (value - estimate) / own).collect(), confidence);
    (estimate - high * error, estimate - low * error)
}

/// A standard error that is smaller than the estimate's by this factor is rounding.
const VANISHING: f64 = 1e-9;

/// Standard error from influences of the units, each drawn `drawn[unit]` times: the variance of a mean in each stratum,
/// whose units are independent. A stratum of one unit, which can't vary, adds nothing.
pub fn standard_error(influences: &[f64], drawn: &[f64], strata: &[Range<usize>]) -> f64 {
    let variance = |stratum: &Range<usize>| {
        let n = stratum.len() as f64;
        let (influences, drawn) = (&influences[stratum.clone()], &drawn[stratum.clone()]);
        let mean = influences.iter().zip(drawn).map(|(influence, times)| times * influence).sum::<f64>() / n;
        let squares: f64 =
            influences.iter().zip(drawn).map(|(influence, times)| times * (influence - mean).powi(2)).sum();
        squares * n / (n - 1.0)
    };
    strata.iter().filter(|stratum| stratum.len() > 1).map(variance).sum::<f64>().sqrt()
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

/// Quantile with linear interpolation (type 7, numpy's default); changes the order of the values.
fn quantile(values: &mut [f64], level: f64) -> f64 {
    if values.is_empty() || level.is_nan() {
        return f64::NAN;
    }
    let position = level.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let below = position.floor();
    let (_, low, others) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let high = others.iter().copied().min_by(f64::total_cmp).unwrap_or(*low);
    *low + (high - *low) * (position - below)
}

//! The standard normal distribution, and Wilson's interval for a proportion.

use std::f64::consts::SQRT_2;

use crate::error::{Result, invalid};

/// Distribution function Φ(z).
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// Quantile Φ⁻¹(p) for 0 < p < 1; ∓∞ at 0 and 1.
///
/// Acklam's rational approximation (relative error 1.2e-9), then one Halley step on Φ, which makes it exact to
/// a few units in the last place.
pub fn quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 || p.is_nan() {
        return if p == 0.0 {
            f64::NEG_INFINITY
        } else if p == 1.0 {
            f64::INFINITY
        } else {
            f64::NAN
        };
    }
    // The upper tail mirrors the lower one, where erfc keeps its relative accuracy.
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let z = approximate_lower_quantile(p);
    let error = cdf(z) - p;
    let step = error * (2.0 * std::f64::consts::PI).sqrt() * (z * z / 2.0).exp();
    z - step / (1.0 + z * step / 2.0)
}

fn approximate_lower_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    } else {
        let q = p - 0.5;
        horner(&A, q * q) * q / horner(&B, q * q)
    }
}

/// Wilson's score interval (1927) for `successes` of `n` at a two-sided `confidence`.
///
/// Its ends are exactly 0 for no success and 1 for no failure, and it never has length 0.
pub fn wilson(successes: f64, n: f64, confidence: f64) -> Result<(f64, f64)> {
    check_confidence(confidence)?;
    if !(n > 0.0 && n.is_finite()) {
        return invalid!("n is {n}, expected at least one trial");
    }
    if !(0.0..=n).contains(&successes) {
        return invalid!("successes is {successes}, expected 0 … n = {n}");
    }
    let z2 = quantile((1.0 - confidence) / 2.0).powi(2);
    let rate = successes / n;
    let centre = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (z2 * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    let low = if successes == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == n { 1.0 } else { (centre + half).min(1.0) };
    Ok((low, high))
}

/// A two-sided confidence level lies strictly between 0 and 1.
pub fn check_confidence(confidence: f64) -> Result<()> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        invalid!("confidence is {confidence}, expected a value between 0 and 1, such as 0.95")
    }
}

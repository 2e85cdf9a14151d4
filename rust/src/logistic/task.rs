//! One fit as the solvers see it.

use super::passes::Part;

/// What the solvers see of one fit.
pub struct Task<'a> {
    pub parts: [Part<'a>; 4],
    pub rows: f64,
    /// Of features already centred on the source rows.
    pub mean: Vec<f64>,
    pub scale: Vec<f64>,
}

impl Task<'_> {
    /// Weights and bias on centred, unscaled features.
    pub fn unfold(&self, weights: &[f64], bias: f64) -> (Vec<f64>, f64) {
        let raw: Vec<f64> = weights.iter().zip(&self.scale).map(|(weight, scale)| weight / scale).collect();
        let shift: f64 = raw.iter().zip(&self.mean).map(|(weight, mean)| weight * mean).sum();
        (raw, bias - shift)
    }
}

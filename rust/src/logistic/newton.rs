//! Newton's method (iteratively reweighted least squares) on the class-balanced logistic loss with a small ridge.

use super::passes::{self, Curvature, Gradient};
use super::{Task, linear};

/// λ of the penalty ½·λ·|w|² beside the loss summed over rows; the bias is free. It is what makes separable data have
/// a finite solution, and corresponds to C = 1/λ = 100 in scikit-learn.
pub const RIDGE: f64 = 1e-2;
/// Largest derivative of the mean loss at which a fit counts as converged.
const FLAT: f64 = 1e-10;
const ITERATIONS: usize = 100;
const HALVINGS: usize = 40;

/// Weights, bias, and whether the gradient vanished.
pub fn minimise(task: &Task, initial: &[f64]) -> (Vec<f64>, f64, bool) {
    let features = initial.len();
    let mut point = initial.to_vec();
    point.push(0.0);
    let mut value = objective(task, &point);
    for _ in 0..ITERATIONS {
        let (slope, hessian) = derivatives(task, &point);
        if slope.iter().all(|slope| slope.abs() <= FLAT * task.rows) {
            return finish(point, true);
        }
        let Some(step) = newton_step(&hessian, &slope) else { return finish(point, false) };
        let descent: f64 = slope.iter().zip(&step).map(|(slope, step)| slope * step).sum();
        let mut length = 1.0;
        let mut found = None;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = point.iter().zip(&step).map(|(x, step)| x - length * step).collect();
            let lower = objective(task, &next);
            // Near the minimum the objective can't tell any more; a full step is then right.
            if lower <= value - 1e-4 * length * descent || descent <= 1e-12 * value.abs() {
                found = Some((next, lower));
                break;
            }
            length /= 2.0;
        }
        let Some((next, lower)) = found else { return finish(point, false) };
        (point, value) = (next, lower);
    }
    let (slope, _) = derivatives(task, &point);
    let flat = slope.iter().all(|slope| slope.abs() <= FLAT * task.rows);
    debug_assert_eq!(point.len(), features + 1);
    finish(point, flat)
}

fn finish(mut point: Vec<f64>, converged: bool) -> (Vec<f64>, f64, bool) {
    let bias = point.pop().expect("the bias is the last parameter");
    (point, bias, converged)
}

fn objective(task: &Task, point: &[f64]) -> f64 {
    let (weights, bias) = point.split_at(point.len() - 1);
    let (raw, shift) = task.unfold(weights, bias[0]);
    let penalty: f64 = weights.iter().map(|weight| weight * weight).sum();
    passes::loss(&task.parts, &raw, shift) + RIDGE / 2.0 * penalty
}

/// Gradient and Hessian for standardised features, from sums over centred ones.
fn derivatives(task: &Task, point: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let features = point.len() - 1;
    let (raw, shift) = task.unfold(&point[..features], point[features]);
    let (Gradient { bias, weights }, Curvature { bias: total, mixed, weights: second }) =
        passes::curvature(&task.parts, &raw, shift);
    let (mean, scale) = (&task.mean, &task.scale);
    let mut slope: Vec<f64> =
        (0..features).map(|j| (weights[j] - mean[j] * bias) / scale[j] + RIDGE * point[j]).collect();
    slope.push(bias);
    let size = features + 1;
    let mut hessian = vec![0.0; size * size];
    let mut index = 0;
    for j in 0..features {
        for k in j..features {
            let about_mean = second[index] - mean[j] * mixed[k] - mean[k] * mixed[j] + total * mean[j] * mean[k];
            hessian[k * size + j] = about_mean / (scale[j] * scale[k]);
            index += 1;
        }
        hessian[j * size + j] += RIDGE;
        hessian[features * size + j] = (mixed[j] - mean[j] * total) / scale[j];
    }
    hessian[size * size - 1] = total;
    (slope, hessian)
}

/// H⁻¹·slope; a Hessian that rounding left indefinite gets a growing multiple of its trace on the diagonal.
fn newton_step(hessian: &[f64], slope: &[f64]) -> Option<Vec<f64>> {
    let size = slope.len();
    let trace: f64 = (0..size).map(|j| hessian[j * size + j]).sum();
    let mut damping = 0.0;
    for _ in 0..12 {
        let mut damped = hessian.to_vec();
        (0..size).for_each(|j| damped[j * size + j] += damping * trace);
        if let Some(step) = linear::solve(damped, slope.to_vec()) {
            return Some(step);
        }
        damping = if damping == 0.0 { 1e-14 } else { damping * 10.0 };
    }
    None
}

//! Newton's method (iteratively reweighted least squares) on the class-balanced logistic loss with a small ridge.

use super::linear;
use super::passes::{self, Curvature, Gradient, Part};
use super::task::Task;

/// λ of the penalty ½·λ·|w|² beside the loss summed over rows; the bias is free. It is what makes separable data have
/// a finite solution, and corresponds to C = 1/λ = 100 in scikit-learn.
pub const RIDGE: f64 = 1e-2;
/// Largest derivative of the mean loss at which a fit counts as converged.
const FLAT: f64 = 1e-10;
const ITERATIONS: usize = 100;
const HALVINGS: usize = 40;

/// The solution on the source rows alone, where every fit of a batch starts, with the derivatives of both classes there.
pub struct Start {
    weights: Vec<f64>,
    shift: f64,
    /// Of harmful and harmless rows that weigh 1.
    classes: [(Gradient, Curvature); 2],
}

impl Start {
    /// `source` holds the source rows alone, of both classes.
    pub fn new(source: &Task) -> Self {
        let features = source.mean.len();
        let zeros = vec![0.0; features + 1];
        let (slope, hessian) = derivatives(source, &zeros);
        let point = undamped(source, zeros, slope, hessian, f64::INFINITY).unwrap_or_else(|| damped(source).0);
        let (weights, shift) = source.unfold(&point[..features], point[features]);
        let classes = [0, 2].map(|part| {
            let Part { columns, target, .. } = source.parts[part];
            passes::curvature(&[Part { columns, target, weight: 1.0 }], &weights, shift)
        });
        Self { weights, shift, classes }
    }

    /// The point in a fit's standardised features, with its derivatives: only the fit's own rows are read.
    fn of(&self, task: &Task) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let own = [task.parts[1], task.parts[3]];
        let (mut gradient, mut curvature) = passes::curvature(&own, &self.weights, self.shift);
        for ((first, second), part) in self.classes.iter().zip([task.parts[0], task.parts[2]]) {
            gradient.add(first, part.weight);
            curvature.add(second, part.weight);
        }
        let mut point: Vec<f64> = self.weights.iter().zip(&task.scale).map(|(weight, scale)| weight * scale).collect();
        let shift: f64 = self.weights.iter().zip(&task.mean).map(|(weight, mean)| weight * mean).sum();
        point.push(self.shift + shift);
        let slope = slope(task, &point, &gradient);
        let hessian = hessian(task, &curvature);
        (point, slope, hessian)
    }
}

/// Weights, bias, and whether the gradient vanished. From `start` where there is one, else, or where full steps from
/// there overshoot (a few rows far from the sources'), with backtracking from 0.
pub fn minimise(task: &Task, start: Option<&Start>) -> (Vec<f64>, f64, bool) {
    let quick = start.and_then(|start| {
        let (point, slope, hessian) = start.of(task);
        undamped(task, point, slope, hessian, 0.0)
    });
    let (mut point, converged) = quick.map_or_else(|| damped(task), |point| (point, true));
    let bias = point.pop().expect("the bias is the last parameter");
    (point, bias, converged)
}

/// Full steps for as long as each makes the next one shorter; None where one doesn't, or the gradient never vanishes.
///
/// A pass for the curvature costs several for the gradient. It is made where the last step shortened the next by less
/// than `QUICK`; otherwise the Hessian is kept, corrected by what the gradient tells (BFGS: Nocedal & Wright 2006,
/// equation 6.19). `shortened` is what to assume of the step before the first.
fn undamped(
    task: &Task,
    mut point: Vec<f64>,
    mut slope: Vec<f64>,
    mut hessian: Vec<f64>,
    mut shortened: f64,
) -> Option<Vec<f64>> {
    let mut length = f64::INFINITY;
    for _ in 0..ITERATIONS {
        if is_flat(task, &slope) {
            return Some(point);
        }
        let step = newton_step(&hessian, &slope)?;
        let descent: f64 = slope.iter().zip(&step).map(|(slope, step)| slope * step).sum();
        // Length in the metric of the Hessian, which doesn't depend on the scale of features.
        let next_length = descent.sqrt();
        if next_length.is_nan() || next_length >= length {
            return None;
        }
        if length.is_finite() {
            shortened = next_length / length;
        }
        length = next_length;
        point.iter_mut().zip(&step).for_each(|(x, step)| *x -= step);
        if shortened > QUICK {
            (slope, hessian) = derivatives(task, &point);
        } else {
            let next = slope_at(task, &point);
            correct(&mut hessian, &slope, &next, &step, descent);
            slope = next;
        }
    }
    None
}

const QUICK: f64 = 0.1;

/// The BFGS correction of a Hessian [n, n] (lower triangle) after the step that it gave, which changed the slope.
fn correct(hessian: &mut [f64], slope: &[f64], next: &[f64], step: &[f64], descent: f64) {
    let size = slope.len();
    let change: Vec<f64> = slope.iter().zip(next).map(|(slope, next)| slope - next).collect();
    let along: f64 = change.iter().zip(step).map(|(change, step)| change * step).sum();
    if along <= 0.0 {
        return;
    }
    for row in 0..size {
        for column in 0..=row {
            hessian[row * size + column] += change[row] * change[column] / along - slope[row] * slope[column] / descent;
        }
    }
}

fn is_flat(task: &Task, slope: &[f64]) -> bool {
    slope.iter().all(|slope| slope.abs() <= FLAT * task.rows)
}

/// Newton's method with backtracking from 0: the point, and whether the gradient vanished.
fn damped(task: &Task) -> (Vec<f64>, bool) {
    let mut point = vec![0.0; task.mean.len() + 1];
    let mut value = objective(task, &point);
    for _ in 0..ITERATIONS {
        let (slope, hessian) = derivatives(task, &point);
        if is_flat(task, &slope) {
            return (point, true);
        }
        let Some(step) = newton_step(&hessian, &slope) else { return (point, false) };
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
        let Some((next, lower)) = found else { return (point, false) };
        (point, value) = (next, lower);
    }
    let flat = is_flat(task, &slope_at(task, &point));
    (point, flat)
}

fn objective(task: &Task, point: &[f64]) -> f64 {
    let (weights, bias) = point.split_at(point.len() - 1);
    let (raw, shift) = task.unfold(weights, bias[0]);
    let penalty: f64 = weights.iter().map(|weight| weight * weight).sum();
    passes::loss(&task.parts, &raw, shift) + RIDGE / 2.0 * penalty
}

fn slope_at(task: &Task, point: &[f64]) -> Vec<f64> {
    let (weights, bias) = point.split_at(point.len() - 1);
    let (raw, shift) = task.unfold(weights, bias[0]);
    slope(task, point, &passes::gradient(&task.parts, &raw, shift))
}

/// Gradient and Hessian for standardised features.
fn derivatives(task: &Task, point: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (weights, bias) = point.split_at(point.len() - 1);
    let (raw, shift) = task.unfold(weights, bias[0]);
    let (gradient, curvature) = passes::curvature(&task.parts, &raw, shift);
    (slope(task, point, &gradient), hessian(task, &curvature))
}

/// Gradient for standardised features, from sums over centred ones.
fn slope(task: &Task, point: &[f64], gradient: &Gradient) -> Vec<f64> {
    let of = |j: usize| (gradient.weights[j] - task.mean[j] * gradient.bias) / task.scale[j] + RIDGE * point[j];
    (0..gradient.weights.len()).map(of).chain([gradient.bias]).collect()
}

/// Hessian for standardised features (lower triangle), from sums over centred ones.
fn hessian(task: &Task, curvature: &Curvature) -> Vec<f64> {
    let Curvature { bias: total, mixed, weights: second } = curvature;
    let (mean, scale) = (&task.mean, &task.scale);
    let features = mean.len();
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
    hessian[size * size - 1] = *total;
    hessian
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

//! The paper's optimiser: full-batch AdamW (Loshchilov & Hutter 2019), step for step as `torch.optim.AdamW` with
//! `BCEWithLogitsLoss(pos_weight=negatives/positives)`, in float64.

use super::passes;
use super::task::Task;
use crate::numeric::threads::Stop;

/// Learning rate.
pub const LEARNING_RATE: f64 = 0.05;
/// Decoupled weight decay, on weights and bias, as torch does for every parameter that it is given.
pub const WEIGHT_DECAY: f64 = 0.01;
/// Epochs, one step each.
pub const EPOCHS: i32 = 80;
/// Decay of the first moment.
pub const BETA1: f64 = 0.9;
/// Decay of the second moment.
pub const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
pub const EPSILON: f64 = 1e-8;

/// Weights and bias after all epochs.
pub fn minimise(task: &Task, initial: &[f64], stop: &Stop) -> (Vec<f64>, f64, bool) {
    let features = initial.len();
    let mut parameters = initial.to_vec();
    parameters.push(0.0);
    let (mut first, mut second) = (vec![0.0; features + 1], vec![0.0; features + 1]);
    for epoch in (1..=EPOCHS).take_while(|_| !stop.now()) {
        let (raw, shift) = task.unfold(&parameters[..features], parameters[features]);
        let gradient = passes::gradient(&task.parts, &raw, shift);
        for index in 0..=features {
            let sum = match gradient.weights.get(index) {
                Some(sum) => (sum - task.mean[index] * gradient.bias) / task.scale[index],
                None => gradient.bias,
            };
            let slope = sum / task.rows;
            first[index] += (1.0 - BETA1) * (slope - first[index]);
            second[index] = BETA2 * second[index] + (1.0 - BETA2) * slope * slope;
            let root = second[index].sqrt() / (1.0 - BETA2.powi(epoch)).sqrt() + EPSILON;
            parameters[index] *= 1.0 - LEARNING_RATE * WEIGHT_DECAY;
            parameters[index] -= LEARNING_RATE / (1.0 - BETA1.powi(epoch)) * first[index] / root;
        }
    }
    let bias = parameters.pop().expect("the bias is the last parameter");
    (parameters, bias, false)
}

//! Checks of arguments that several kernels share.

use crate::error::{Error, Result, invalid};

/// Zeros for a result of this shape, where there is memory for them.
pub fn zeros<T: Clone + Default>(what: &'static str, shape: &[usize]) -> Result<Vec<T>> {
    let bytes = shape.iter().fold(size_of::<T>() as u128, |size, part| size.saturating_mul(*part as u128));
    let mut found = Vec::new();
    let size = shape.iter().try_fold(1_usize, |size, part| size.checked_mul(*part));
    match size.filter(|size| found.try_reserve_exact(*size).is_ok()) {
        None => Err(Error::Memory { what, bytes }),
        Some(size) => {
            found.resize(size, T::default());
            Ok(found)
        }
    }
}

/// `name` has `expected` entries.
pub fn length(name: &str, found: usize, expected: usize, of: &str) -> Result<()> {
    if found == expected { Ok(()) } else { invalid!("{name} has {found} entries, expected {expected} as {of}") }
}

/// Every entry is a finite number.
pub fn finite(name: &str, values: &[f64]) -> Result<()> {
    // Chunks without a branch inside: the compiler then checks several entries at once.
    let finite = |chunk: &[f64]| chunk.iter().fold(true, |all, value| all & value.is_finite());
    if values.chunks(256).all(finite) {
        return Ok(());
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => invalid!("{name}[{index}] is {}, expected finite numbers", values[index]),
    }
}

/// Every entry is a finite number ≥ 0.
pub fn weights(values: &[f64]) -> Result<()> {
    match values.iter().position(|value| !(*value >= 0.0 && value.is_finite())) {
        None => Ok(()),
        Some(index) => invalid!("weights[{index}] is {}, expected finite numbers ≥ 0", values[index]),
    }
}

/// Both classes occur.
pub fn both_classes(labels: &[bool]) -> Result<()> {
    let positives = labels.iter().filter(|label| **label).count();
    if labels.is_empty() {
        invalid!("labels are empty")
    } else if positives == 0 || positives == labels.len() {
        invalid!("labels hold a single class: {positives} harmful of {} rows", labels.len())
    } else {
        Ok(())
    }
}

/// `scores` [methods, rows] are finite numbers, `labels` [rows] of both classes.
pub fn methods(scores: &[f64], labels: &[bool]) -> Result<()> {
    both_classes(labels)?;
    if scores.is_empty() || !scores.len().is_multiple_of(labels.len()) {
        return invalid!("scores have {} entries, expected a multiple of {} as labels", scores.len(), labels.len());
    }
    if labels.len() >= 1 << 31 {
        return invalid!("labels have {} entries, expected fewer than 2³¹", labels.len());
    }
    finite("scores", scores)
}

//! Class means of stored activations, streamed in float64.

use std::ops::Range;
use std::path::Path;

use crate::checks;
use crate::error::{Result, invalid};
use crate::store::{Matrix, Store};
use crate::threads;
use crate::widen::add_rows;

/// A thread takes this many rows of a tensor at a time, or a sixteenth of them where that is more: the sums of all
/// pieces are kept and added in their order.
const PIECE: usize = 256;
const PIECES: usize = 16;

/// Rows of a class that are added at once, so that sums are loaded and stored once for all of them.
const ROWS: usize = 4;

/// Means of several tensors.
pub struct ClassMeans {
    /// [tensors, classes, width].
    pub means: Vec<f64>,
    /// Number of classes: the largest label plus one.
    pub classes: usize,
    /// Length of a mean.
    pub width: usize,
}

/// Mean over the rows of each class 0, 1, …, for the named tensors; rows labelled -1 are left out.
///
/// Sums are in float64. A class without rows, or an activation that is NaN or infinite, is an error.
pub fn class_means(path: &Path, tensors: &[String], labels: &[i32], threads: usize) -> Result<ClassMeans> {
    let store = Store::open(path)?;
    let matrices = store.matrices(tensors)?;
    let Matrix { rows, width, .. } = matrices[0];
    checks::length("labels", labels.len(), rows, "rows of the tensors")?;
    let counts = count_classes(labels)?;
    let classes = counts.len();
    let piece = PIECE.max(rows.div_ceil(PIECES));
    let pieces = rows.div_ceil(piece);
    let sums = threads::map(threads, tensors.len() * pieces, |index| {
        let first = index % pieces * piece;
        piece_sums(&matrices[index / pieces], labels, classes, first..rows.min(first + piece))
    })?;
    let mut means = vec![0.0; tensors.len() * classes * width];
    for (index, sums) in sums.iter().enumerate() {
        let tensor = &mut means[index / pieces * classes * width..][..classes * width];
        tensor.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum);
    }
    for (index, mean) in means.chunks_exact_mut(width).enumerate() {
        mean.iter_mut().for_each(|sum| *sum /= counts[index % classes] as f64);
    }
    match means.iter().position(|mean| !mean.is_finite()) {
        None => Ok(ClassMeans { means, classes, width }),
        Some(index) => {
            let tensor = index / (classes * width);
            let reason = explain(&matrices[tensor], labels, index % width);
            Err(store.error(format!("tensor {} {reason}", tensors[tensor])))
        }
    }
}

fn count_classes(labels: &[i32]) -> Result<Vec<u64>> {
    if let Some(row) = labels.iter().position(|label| *label < -1) {
        return invalid!("labels[{row}] is {}, expected a class 0, 1, … or -1 to leave the row out", labels[row]);
    }
    let classes = labels.iter().copied().max().map_or(0, |largest| (largest + 1) as usize);
    if classes == 0 {
        return invalid!("labels leave out every row");
    }
    if classes > labels.len() {
        return invalid!("labels name class {}, but there are {} rows", classes - 1, labels.len());
    }
    let mut counts = vec![0; classes];
    for label in labels.iter().filter(|label| **label >= 0) {
        counts[*label as usize] += 1;
    }
    match counts.iter().position(|count| *count == 0) {
        None => Ok(counts),
        Some(class) => invalid!("class {class} has no rows"),
    }
}

fn piece_sums(matrix: &Matrix, labels: &[i32], classes: usize, rows: Range<usize>) -> Vec<f64> {
    let width = matrix.width;
    let mut sums = vec![0.0; classes * width];
    let mut waiting = vec![Vec::with_capacity(ROWS); classes];
    for row in rows.filter(|row| labels[*row] >= 0) {
        let class = labels[row] as usize;
        waiting[class].push(matrix.rows(row, 1));
        if waiting[class].len() == ROWS {
            add_rows(matrix.dtype, &waiting[class], &mut sums[class * width..(class + 1) * width]);
            waiting[class].clear();
        }
    }
    for (class, rest) in waiting.iter().enumerate() {
        rest.chunks(1).for_each(|row| add_rows(matrix.dtype, row, &mut sums[class * width..(class + 1) * width]));
    }
    sums
}

fn explain(matrix: &Matrix, labels: &[i32], column: usize) -> String {
    let found = (0..matrix.rows).find(|&row| labels[row] >= 0 && !matrix.value(row, column).is_finite());
    match found {
        Some(row) => format!("holds {} at row {row}, column {column}", matrix.value(row, column)),
        None => format!("has a sum beyond float64 in column {column}"),
    }
}

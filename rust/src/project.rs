//! Projection of stored activations on directions, in one pass over the mapped file.

use std::path::Path;

use crate::dot::{Directions, InstructionSet};
use crate::error::{Result, invalid};
use crate::store::{Matrix, Store};
use crate::threads;

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// Directions to project on, row-major float64.
pub struct DirectionSet<'a> {
    /// [count, width], or [tensors, count, width] when each tensor has its own.
    pub values: &'a [f64],
    /// Directions for each tensor.
    pub count: usize,
    /// Length of a direction.
    pub width: usize,
    /// Whether `values` holds a block for each tensor.
    pub per_tensor: bool,
}

/// Scores of several tensors.
pub struct Projections {
    /// [tensors, rows, directions].
    pub scores: Vec<f32>,
    /// Rows of each tensor.
    pub rows: usize,
}

/// Dot products of every row of the named tensors with the directions, on the widest instruction set there is.
///
/// Relative to |row|·|direction| the error is near 1e-7. Memory: the output and the directions. An activation that is
/// NaN or infinite is an error that names its tensor and row.
pub fn project(path: &Path, tensors: &[String], directions: &DirectionSet, threads: usize) -> Result<Projections> {
    project_with(InstructionSet::detect(), path, tensors, directions, threads)
}

/// `project` on a given instruction set, which must be available.
pub fn project_with(
    set: InstructionSet,
    path: &Path,
    tensors: &[String],
    directions: &DirectionSet,
    threads: usize,
) -> Result<Projections> {
    check(directions, tensors.len())?;
    let store = Store::open(path)?;
    let matrices = store.matrices(tensors)?;
    let Matrix { rows, width, .. } = matrices[0];
    if width != directions.width {
        return invalid!("directions have {} values, rows of {} have {width}", directions.width, path.display());
    }
    let size = directions.count * directions.width;
    let prepared: Vec<Directions> = (0..if directions.per_tensor { tensors.len() } else { 1 })
        .map(|block| {
            let values = &directions.values[block * size..(block + 1) * size];
            Directions::new(values, width, matrices[block].dtype, set)
        })
        .collect();
    let uniform = matrices.iter().all(|matrix| matrix.dtype == matrices[0].dtype);
    if !directions.per_tensor && !uniform {
        return Err(store.error("the tensors have different types"));
    }
    let count = directions.count;
    let mut scores = vec![0.0; tensors.len() * rows * count];
    // Pieces end with their tensor, so a piece is rows of one tensor.
    let pieces = rows.div_ceil(ROWS);
    let mut slots: Vec<&mut [f32]> =
        scores.chunks_mut(rows * count).flat_map(|tensor| tensor.chunks_mut(ROWS * count)).collect();
    threads::for_pieces(threads, &mut slots, 1, |index, slot| {
        let (tensor, first) = (index / pieces, index % pieces * ROWS);
        let block = if directions.per_tensor { tensor } else { 0 };
        let taken = slot[0].len() / count;
        // Mapping a piece's pages at once (MADV_POPULATE_READ) gave no gain; reading into a buffer was not tried.
        prepared[block].dot(matrices[tensor].rows(first, taken), slot[0]);
    })?;
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(Projections { scores, rows }),
        Some(index) => Err(store.error(explain(&tensors[index / (rows * count)], &matrices[index / (rows * count)]))),
    }
}

fn explain(name: &str, matrix: &Matrix) -> String {
    match matrix.first_not_finite() {
        Some((row, column)) => {
            format!("tensor {name} holds {} at row {row}, column {column}", matrix.value(row, column))
        }
        None => format!("projections of tensor {name} exceed the range of float32"),
    }
}

fn check(directions: &DirectionSet, tensors: usize) -> Result<()> {
    if directions.count == 0 || directions.width == 0 {
        return invalid!("directions are empty: shape [{}, {}]", directions.count, directions.width);
    }
    let blocks = if directions.per_tensor { tensors } else { 1 };
    if directions.values.len() != blocks * directions.count * directions.width {
        let found = directions.values.len() / (directions.count * directions.width);
        return invalid!("directions have {found} blocks, expected {blocks}, one for each tensor");
    }
    match directions.values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            let row = index / directions.width % directions.count;
            invalid!("direction {row} holds {}", directions.values[index])
        }
    }
}

//! Projection of stored activations on directions, in one pass over the files.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result, invalid};
use crate::linear::dot::{Directions, InstructionSet};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};
use crate::store::{self, Tensor};

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
/// `paths` is one store, or shards whose rows follow each other. Relative to |row|·|direction| the error is near 1e-7.
/// Memory: the output, the directions, and for each thread a megabyte of the map. An activation that is NaN or infinite is
/// an error that names its tensor and row.
pub fn project<'a, P: AsRef<Path>>(
    paths: &[P],
    tensors: &[String],
    directions: &DirectionSet,
    threads: impl Into<Threads<'a>>,
) -> Result<Projections> {
    project_with(InstructionSet::detect(), paths, tensors, directions, threads)
}

/// `project` on a given instruction set, which must be available.
pub fn project_with<'a, P: AsRef<Path>>(
    set: InstructionSet,
    paths: &[P],
    tensors: &[String],
    directions: &DirectionSet,
    threads: impl Into<Threads<'a>>,
) -> Result<Projections> {
    check(directions, tensors.len())?;
    let stores = store::open(paths)?;
    let tensors = store::tensors(&stores, tensors)?;
    let &Tensor { rows, width, .. } = &tensors[0];
    if width != directions.width {
        let path = paths[0].as_ref().display();
        return invalid!("directions have {} values, rows of {path} have {width}", directions.width);
    }
    let prepared = prepare(set, directions, &tensors);
    let count = directions.count;
    let mut scores: Vec<f32> = checks::zeros("projections", &[tensors.len(), rows, count])?;
    // A chunk is rows of one tensor and one file.
    let mut slots = Vec::new();
    for ((tensor, directions), mut left) in tensors.iter().zip(&prepared).zip(scores.chunks_mut(rows * count)) {
        for chunk in tensor.chunks(0..rows) {
            let (slot, rest) = left.split_at_mut(chunk.rows.len() * count);
            slots.push((tensor, directions, chunk, slot, None));
            left = rest;
        }
    }
    threads::try_each(threads.into(), &mut slots, |(tensor, directions, chunk, slot, sum), _| {
        *sum = tensor.sum(chunk);
        directions.dot(chunk.bytes, slot);
        tensor.release(chunk);
        match slot.iter().position(|score| !score.is_finite()) {
            None => Ok(()),
            Some(index) => Err(explain(tensor, chunk.rows.start + index / count)),
        }
    })?;
    for own in slots.chunk_by(|one, next| std::ptr::eq(one.0, next.0)) {
        let sums = own.iter().filter_map(|(.., chunk, _, sum)| sum.as_ref().map(|sum| (chunk.rows.start, sum)));
        own[0].0.check_sums(sums)?;
    }
    Ok(Projections { scores, rows })
}

/// Directions for each tensor; tensors that share directions and type share what is laid out for them.
fn prepare(set: InstructionSet, directions: &DirectionSet, tensors: &[Tensor]) -> Vec<Arc<Directions>> {
    let size = directions.count * directions.width;
    let mut prepared: Vec<Arc<Directions>> = Vec::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        let same = tensors[..index].iter().position(|other| !directions.per_tensor && other.dtype == tensor.dtype);
        prepared.push(match same {
            Some(other) => prepared[other].clone(),
            None => {
                let block = if directions.per_tensor { index } else { 0 };
                let values = &directions.values[block * size..(block + 1) * size];
                Arc::new(Directions::new(values, tensor.width, tensor.dtype, set))
            }
        });
    }
    prepared
}

fn explain(tensor: &Tensor, row: usize) -> Error {
    match tensor.check_finite(row..row + 1, |_, _| true) {
        Err(error) => error,
        Ok(()) => tensor.error(row, format!("projections of tensor {} exceed the range of float32", tensor.name)),
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

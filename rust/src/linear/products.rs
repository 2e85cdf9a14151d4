//! Gram matrices and scatter matrices of stored activations, streamed in float64.
//!
//! Rows are widened to float64 in blocks; the products of blocks are those of `ndarray` (`matrixmultiply`), which come
//! near the processor's limit. A block's shape depends on the input alone, so results don't depend on the threads.

use std::path::Path;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use crate::error::Result;
use crate::linear::means;
use crate::numeric::checks;
use crate::numeric::threads::{self, Stop, Threads};
use crate::store::widen::widen;
use crate::store::{self, Tensor};

/// Rows or columns of a block.
const BLOCK: usize = 256;

/// Inner products of all pairs of rows.
pub struct Gram {
    /// [tensors, rows, rows].
    pub products: Vec<f64>,
    /// Rows of each tensor.
    pub rows: usize,
}

/// X·Xᵀ of the named tensors, uncentred.
///
/// `paths` is one store, or shards whose rows follow each other. Memory: the output, and for each thread 512 rows in
/// float64. An activation that is NaN or infinite is an error that names its tensor and row.
pub fn gram<'a, P: AsRef<Path>>(paths: &[P], tensors: &[String], threads: impl Into<Threads<'a>>) -> Result<Gram> {
    let stores = store::open(paths)?;
    let tensors = store::tensors(&stores, tensors)?;
    let rows = tensors[0].rows;
    let mut products: Vec<f64> = checks::zeros("the Gram matrix", &[tensors.len(), rows, rows])?;
    let mut strips = Vec::new();
    for (tensor, square) in tensors.iter().zip(products.chunks_mut(rows * rows)) {
        strips.extend(square.chunks_mut(BLOCK * rows).enumerate().map(|(index, strip)| (tensor, index * BLOCK, strip)));
    }
    threads::try_each(threads.into(), &mut strips, |(tensor, first, strip), stop| {
        gram_strip(tensor, *first, strip, stop)
    })?;
    products.chunks_mut(rows * rows).for_each(|square| mirror(square, rows));
    Ok(Gram { products, rows })
}

/// Products of the rows from `first` on with themselves and the rows after them.
fn gram_strip(tensor: &Tensor, first: usize, strip: &mut [f64], stop: &Stop) -> Result<()> {
    let (rows, width) = (tensor.rows, tensor.width);
    let count = strip.len() / rows;
    let mut own = vec![0.0; count * width];
    load(tensor, first, &mut own);
    let mut strip = view_mut(strip, count, rows);
    let own = view(&own, count, width);
    let mut others = Vec::new();
    for column in (first..rows).step_by(BLOCK).take_while(|_| !stop.now()) {
        let end = rows.min(column + BLOCK);
        let mut block = strip.slice_mut(s![.., column..end]);
        if column == first {
            general_mat_mul(1.0, &own, &own.t(), 0.0, &mut block);
        } else {
            others.resize((end - column) * width, 0.0);
            load(tensor, column, &mut others);
            general_mat_mul(1.0, &own, &view(&others, end - column, width).t(), 0.0, &mut block);
        }
    }
    match (0..count).find(|&row| !strip[[row, first + row]].is_finite()) {
        None => Ok(()),
        Some(row) => {
            tensor.check_finite(first + row..first + row + 1, |_, _| true)?;
            Err(tensor.error(first + row, format!("tensor {} has products beyond float64", tensor.name)))
        }
    }
}

/// Rows from `first` on in float64.
fn load(tensor: &Tensor, first: usize, out: &mut [f64]) {
    let width = tensor.width;
    for chunk in tensor.chunks(first..first + out.len() / width) {
        let place = (chunk.rows.start - first) * width..(chunk.rows.end - first) * width;
        widen(tensor.dtype, chunk.bytes, &mut out[place]);
        tensor.release(&chunk);
    }
}

/// Counts, means and scatter matrices of classes: what covariances are made of, and what shards combine.
pub struct Moments {
    /// Rows of each class.
    pub counts: Vec<u64>,
    /// [tensors, classes, width].
    pub means: Vec<f64>,
    /// Σ (x − mean)(x − mean)ᵀ over the rows of a class: [tensors, classes, width, width].
    pub scatter: Vec<f64>,
    /// Length of a mean.
    pub width: usize,
}

/// Moments of the rows of each class 0, 1, …, for the named tensors; rows labelled -1 are left out. Without labels all
/// rows are one class.
///
/// Two passes: the means, then products of what differs from them, so that large means cost no digits. Memory: the
/// output, and for each class 256 rows in float64. Errors as for `class_means`.
pub fn moments<'a, P: AsRef<Path>>(
    paths: &[P],
    tensors: &[String],
    labels: Option<&[i32]>,
    threads: impl Into<Threads<'a>>,
) -> Result<Moments> {
    let threads = threads.into();
    let stores = store::open(paths)?;
    let tensors = store::tensors(&stores, tensors)?;
    let one_class = if labels.is_none() { vec![0; tensors[0].rows] } else { Vec::new() };
    let labels = labels.unwrap_or(&one_class);
    let means::ClassMeans { means, counts, width } = means::means_of(&tensors, labels, threads)?;
    let size = counts.len() * width;
    let mut scatter: Vec<f64> = checks::zeros("the scatter matrix", &[tensors.len(), size, width])?;
    for ((tensor, means), scatter) in tensors.iter().zip(means.chunks(size)).zip(scatter.chunks_mut(size * width)) {
        add_scatter(tensor, labels, means, scatter, threads)?;
        if scatter.chunks(width * width).any(|square| !square.iter().step_by(width + 1).all(|x| x.is_finite())) {
            return Err(tensor.error(0, format!("tensor {} has products beyond float64", tensor.name)));
        }
        scatter.chunks_mut(width * width).for_each(|square| mirror(square, width));
    }
    Ok(Moments { counts, means, scatter, width })
}

fn add_scatter(tensor: &Tensor, labels: &[i32], means: &[f64], scatter: &mut [f64], threads: Threads) -> Result<()> {
    let width = tensor.width;
    let mut waiting = vec![Vec::with_capacity(BLOCK * width); means.len() / width];
    let mut centred = vec![0.0; width];
    for chunk in tensor.chunks(0..tensor.rows) {
        for (row, bytes) in chunk.rows.clone().zip(chunk.bytes.chunks_exact(tensor.stride())) {
            if labels[row] < 0 {
                continue;
            }
            let class = labels[row] as usize;
            widen(tensor.dtype, bytes, &mut centred);
            let mean = &means[class * width..(class + 1) * width];
            waiting[class].extend(centred.iter().zip(mean).map(|(value, mean)| value - mean));
            if waiting[class].len() == BLOCK * width {
                add_products(&waiting[class], square(scatter, class, width), width, threads)?;
                waiting[class].clear();
            }
        }
        tensor.release(&chunk);
    }
    for (class, rest) in waiting.iter().enumerate().filter(|(_, rest)| !rest.is_empty()) {
        add_products(rest, square(scatter, class, width), width, threads)?;
    }
    Ok(())
}

fn square(squares: &mut [f64], index: usize, width: usize) -> &mut [f64] {
    &mut squares[index * width * width..(index + 1) * width * width]
}

/// Adds XᵀX to the upper triangle, in strips of rows.
fn add_products(rows: &[f64], square: &mut [f64], width: usize, threads: Threads) -> Result<()> {
    let rows = view(rows, rows.len() / width, width);
    let mut strips: Vec<_> = square.chunks_mut(BLOCK * width).enumerate().collect();
    threads::try_each(threads, &mut strips, |(index, strip), _| {
        let (first, count) = (*index * BLOCK, strip.len() / width);
        let mut block = view_mut(strip, count, width);
        let columns = rows.slice(s![.., first..first + count]);
        let mut block = block.slice_mut(s![.., first..]);
        general_mat_mul(1.0, &columns.t(), &rows.slice(s![.., first..]), 1.0, &mut block);
        Ok(())
    })
}

/// Copies the upper triangle of a square to the lower one, in tiles that stay in the cache.
fn mirror(square: &mut [f64], size: usize) {
    const TILE: usize = 32;
    for top in (0..size).step_by(TILE) {
        for left in (0..=top).step_by(TILE) {
            for row in top..size.min(top + TILE) {
                for column in left..row.min(left + TILE) {
                    square[row * size + column] = square[column * size + row];
                }
            }
        }
    }
}

fn view(values: &[f64], rows: usize, columns: usize) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((rows, columns), values).expect("rows × columns values")
}

fn view_mut(values: &mut [f64], rows: usize, columns: usize) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("rows × columns values")
}

//! Class means of stored activations, streamed in float64.

use std::ops::Range;
use std::path::Path;

use crc32fast::Hasher;

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};
use crate::store::widen::add_rows;
use crate::store::{self, Tensor};

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
    /// Rows of each class; there are as many classes as the largest label plus one.
    pub counts: Vec<u64>,
    /// Length of a mean.
    pub width: usize,
}

/// Mean over the rows of each class 0, 1, …, for the named tensors; rows labelled -1 are left out.
///
/// `paths` is one store, or shards whose rows follow each other. Sums are in float64. A class without rows, or an
/// activation that is NaN or infinite, is an error.
pub fn class_means<'a, P: AsRef<Path>>(
    paths: &[P],
    tensors: &[String],
    labels: &[i32],
    threads: impl Into<Threads<'a>>,
) -> Result<ClassMeans> {
    let stores = store::open(paths)?;
    means_of(&store::tensors(&stores, tensors)?, labels, threads.into())
}

/// `class_means` of open tensors.
pub(crate) fn means_of(tensors: &[Tensor], labels: &[i32], threads: Threads) -> Result<ClassMeans> {
    let &Tensor { rows, width, .. } = &tensors[0];
    checks::length("labels", labels.len(), rows, "rows of the tensors")?;
    let counts = count_classes(labels)?;
    let classes = counts.len();
    let piece = PIECE.max(rows.div_ceil(PIECES));
    let pieces = rows.div_ceil(piece);
    let sums = threads::map(threads, tensors.len() * pieces, |index, _| {
        let first = index % pieces * piece;
        piece_sums(&tensors[index / pieces], labels, classes, first..rows.min(first + piece))
    })?;
    let mut means: Vec<f64> = checks::zeros("class means", &[tensors.len(), classes, width])?;
    for (tensor, pieces) in tensors.iter().zip(sums.chunks(pieces)) {
        tensor.check_sums(pieces.iter().flat_map(|(_, checks)| checks.iter().map(|(row, sum)| (*row, sum))))?;
    }
    for (index, (sums, _)) in sums.into_iter().enumerate() {
        let tensor = &mut means[index / pieces * classes * width..][..classes * width];
        tensor.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum);
    }
    for (index, mean) in means.chunks_exact_mut(width).enumerate() {
        mean.iter_mut().for_each(|sum| *sum /= counts[index % classes] as f64);
    }
    match means.iter().position(|mean| !mean.is_finite()) {
        None => Ok(ClassMeans { means, counts, width }),
        Some(index) => {
            let (tensor, bad) = (&tensors[index / (classes * width)], index % width);
            let counted = |row: usize, column: usize| labels[row] >= 0 && column == bad;
            tensor.check_finite(0..rows, counted)?;
            Err(tensor.error(0, format!("tensor {} has a sum beyond float64 in column {bad}", tensor.name)))
        }
    }
}

fn count_classes(labels: &[i32]) -> Result<Vec<u64>> {
    if let Some(row) = labels.iter().position(|label| *label < -1) {
        return invalid!("labels[{row}] is {}, expected a class 0, 1, … or -1 to leave the row out", labels[row]);
    }
    let classes = labels.iter().copied().max().map_or(0, |largest| (i64::from(largest) + 1) as usize);
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

/// First rows and checksums of chunks.
type Checks = Vec<(usize, Hasher)>;

fn piece_sums(tensor: &Tensor, labels: &[i32], classes: usize, rows: Range<usize>) -> (Vec<f64>, Checks) {
    let (mut sums, mut checks) = (vec![0.0; classes * tensor.width], Vec::new());
    let mut waiting = vec![Vec::with_capacity(ROWS); classes];
    let mut add = |class: usize, rows: &[&[u8]]| {
        add_rows(tensor.dtype, rows, &mut sums[class * tensor.width..(class + 1) * tensor.width]);
    };
    for chunk in tensor.chunks(rows) {
        checks.extend(tensor.sum(&chunk).map(|sum| (chunk.rows.start, sum)));
        for (row, bytes) in chunk.rows.clone().zip(chunk.bytes.chunks_exact(tensor.stride())) {
            if labels[row] >= 0 {
                let class = labels[row] as usize;
                waiting[class].push(bytes);
                if waiting[class].len() == ROWS {
                    add(class, &waiting[class]);
                    waiting[class].clear();
                }
            }
        }
        tensor.release(&chunk);
    }
    for (class, rest) in waiting.iter().enumerate() {
        rest.chunks(1).for_each(|row| add(class, row));
    }
    (sums, checks)
}

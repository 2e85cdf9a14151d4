//! Parallel loops whose results don't depend on the number of threads.
//!
//! Work is cut into pieces that depend on the input alone; each piece is computed by one thread in a fixed order, and
//! results are collected in the order of the pieces.

use std::sync::OnceLock;
use std::thread::available_parallelism;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Number of threads meant by `threads`, where 0 stands for every core of the machine.
pub fn count(threads: usize) -> usize {
    // Asked once: it reads several files of the system, which takes longer than some kernels.
    static CORES: OnceLock<usize> = OnceLock::new();
    if threads > 0 { threads } else { *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from)) }
}

/// `[f(0), f(1), …, f(pieces - 1)]`, computed by up to `threads` threads.
pub fn map<T: Send>(threads: usize, pieces: usize, f: impl Fn(usize) -> T + Sync + Send) -> Result<Vec<T>> {
    match count(threads).min(pieces) {
        0 | 1 => Ok((0..pieces).map(f).collect()),
        workers => Ok(pool(workers)?.install(|| (0..pieces).into_par_iter().map(f).collect())),
    }
}

/// Calls `f(index, piece)` for consecutive pieces of `values`, `size` long each (the last may be shorter).
pub fn for_pieces<T: Send>(
    threads: usize,
    values: &mut [T],
    size: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Result<()> {
    match count(threads).min(values.len().div_ceil(size)) {
        0 | 1 => values.chunks_mut(size).enumerate().for_each(|(index, piece)| f(index, piece)),
        workers => pool(workers)?.install(|| {
            values.par_chunks_mut(size).enumerate().for_each(|(index, piece)| f(index, piece));
        }),
    }
    Ok(())
}

/// Calls `f` on every item. Of several failures the one of the first item is returned.
pub fn try_each<T: Send>(
    threads: usize,
    items: &mut [T],
    f: impl Fn(&mut T) -> Result<()> + Sync + Send,
) -> Result<()> {
    match count(threads).min(items.len()) {
        0 | 1 => items.iter_mut().try_for_each(f),
        workers => {
            let results: Vec<Result<()>> = pool(workers)?.install(|| items.par_iter_mut().map(f).collect());
            results.into_iter().collect()
        }
    }
}

/// A pool of its own for each call: a shared one would not survive a fork of the Python process. Costs about 50 µs.
fn pool(workers: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .map_err(|error| Error::Invalid(format!("can't start {workers} threads: {error}")))
}

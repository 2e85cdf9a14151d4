//! Parallel loops whose results don't depend on the number of threads.
//!
//! Work is cut into pieces that depend on the input alone; each piece is computed by one thread in a fixed order, and
//! results are collected in the order of the pieces. A call may be interrupted between and within pieces.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::available_parallelism;
use std::time::Duration;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// How many threads may work on a call, and the caller's question whether it should still be answered.
#[derive(Clone, Copy)]
pub struct Threads<'a> {
    count: usize,
    interrupted: &'a dyn Fn() -> bool,
}

impl<'a> Threads<'a> {
    /// Up to `count` threads, 0 for every core. `interrupted` is asked in the calling thread alone, every now and then;
    /// once it says yes, what has not begun is left undone and the call ends with `Error::Interrupted`.
    pub fn new(count: usize, interrupted: &'a dyn Fn() -> bool) -> Self {
        Self { count, interrupted }
    }

    /// Whether the caller wants no answer any more; to be asked in the calling thread alone.
    pub fn interrupted(self) -> bool {
        (self.interrupted)()
    }

    /// Threads that are worth starting for so many pieces of work.
    fn workers(self, pieces: usize) -> usize {
        // Asked once: it reads several files of the system, which takes longer than some kernels.
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from));
        // More than the machine has are of no use, and thousands can't be started.
        let wanted = if self.count > 0 { self.count.min(cores.max(MOST)) } else { cores };
        wanted.min(pieces).max(1)
    }
}

/// Threads that a caller may ask for on any machine.
const MOST: usize = 64;

impl From<usize> for Threads<'static> {
    /// Threads of a call that nobody interrupts.
    fn from(count: usize) -> Self {
        Self { count, interrupted: &|| false }
    }
}

/// Asked within a long piece of work whether to leave the rest of it undone; its result is then thrown away.
pub struct Stop<'a> {
    told: &'a AtomicBool,
    ask: Option<&'a dyn Fn() -> bool>,
}

impl Stop<'_> {
    /// Whether the call was interrupted.
    pub fn now(&self) -> bool {
        if !self.told.load(Ordering::Relaxed) && self.ask.is_some_and(|ask| ask()) {
            self.told.store(true, Ordering::Relaxed);
        }
        self.told.load(Ordering::Relaxed)
    }
}

/// How long the calling thread waits for the others before it asks whether it is interrupted.
const PATIENCE: Duration = Duration::from_millis(50);

/// `[f(0), f(1), …, f(pieces - 1)]`, computed by up to `threads` threads.
pub fn map<T: Send>(threads: Threads, pieces: usize, f: impl Fn(usize, &Stop) -> T + Sync + Send) -> Result<Vec<T>> {
    let told = AtomicBool::new(false);
    let each = |index, stop: &Stop| (!stop.now()).then(|| f(index, stop));
    let found: Vec<Option<T>> = match threads.workers(pieces) {
        1 => {
            let stop = Stop { told: &told, ask: Some(threads.interrupted) };
            (0..pieces).map(|index| each(index, &stop)).collect()
        }
        workers => pooled(workers, threads, &told, || {
            (0..pieces).into_par_iter().map(|index| each(index, &Stop { told: &told, ask: None })).collect()
        })?,
    };
    if told.into_inner() { Err(Error::Interrupted) } else { Ok(found.into_iter().flatten().collect()) }
}

/// Calls `f(index, piece, stop)` for consecutive pieces of `values`, `size` long each (the last may be shorter).
pub fn for_pieces<T: Send>(
    threads: Threads,
    values: &mut [T],
    size: usize,
    f: impl Fn(usize, &mut [T], &Stop) + Sync + Send,
) -> Result<()> {
    let mut pieces: Vec<(usize, &mut [T])> = values.chunks_mut(size).enumerate().collect();
    try_each(threads, &mut pieces, |(index, piece), stop| {
        f(*index, piece, stop);
        Ok(())
    })
}

/// Calls `f` on every item. Of several failures the one of the first item is returned.
pub fn try_each<T: Send>(
    threads: Threads,
    items: &mut [T],
    f: impl Fn(&mut T, &Stop) -> Result<()> + Sync + Send,
) -> Result<()> {
    let told = AtomicBool::new(false);
    let each = |item: &mut T, stop: &Stop| if stop.now() { Ok(()) } else { f(item, stop) };
    match threads.workers(items.len()) {
        1 => {
            let stop = Stop { told: &told, ask: Some(threads.interrupted) };
            items.iter_mut().try_for_each(|item| each(item, &stop))?;
        }
        workers => {
            let results: Vec<Result<()>> = pooled(workers, threads, &told, || {
                items.par_iter_mut().map(|item| each(item, &Stop { told: &told, ask: None })).collect()
            })?;
            results.into_iter().collect::<Result<()>>()?;
        }
    }
    if told.into_inner() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Runs `work` in a pool while the calling thread asks, every now and then, whether it is interrupted.
///
/// The pool is one of its own for each call: a shared one would not survive a fork of the Python process. Costs about
/// 50 µs.
fn pooled<R: Send>(workers: usize, threads: Threads, told: &AtomicBool, work: impl FnOnce() -> R + Send) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .map_err(|error| Error::Invalid(format!("can't start {workers} threads: {error}")))?;
    let mut found = None;
    let (done, waiting) = mpsc::channel();
    let slot = &mut found;
    pool.in_place_scope(|scope| {
        scope.spawn(move |_| {
            *slot = Some(work());
            // Nobody waits any more where the calling thread has panicked.
            let _ = done.send(());
        });
        while waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            if (threads.interrupted)() {
                told.store(true, Ordering::Relaxed);
            }
        }
    });
    Ok(found.expect("the scope ends after its work"))
}

//! The Python module `polygate._kernels`: converts types, copies arrays, releases the interpreter lock, maps errors.
//!
//! Arrays are copied before the lock is released, as other threads of Python may then write to them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use numpy::{Element, PyReadonlyArray, ndarray::Dimension};
use numpy::{
    PyArray1, PyArray2, PyArray3, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::bootstrap::{Average, Kind, Options, Sample, Statistic};
use crate::error::{Error, Result};
use crate::linear::project::DirectionSet;
use crate::logistic::{self, Problem, Solver};
use crate::numeric::threads::Threads;
use crate::ranking::Metric;
use crate::ranking::threshold::Objective;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. } => std::io::Error::new(source.kind(), error.to_string()).into(),
            Error::Store { .. } | Error::Invalid(_) => PyValueError::new_err(error.to_string()),
            Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        }
    }
}

/// How often a kernel asks Python for signals: each time it takes the interpreter lock.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs a kernel without the interpreter lock. Where this is Python's main thread, which alone may handle signals, the
/// kernel is interrupted when a handler raises, as that of Ctrl-C does.
fn run<T: Send>(py: Python<'_>, threads: usize, kernel: impl FnOnce(Threads) -> Result<T> + Send) -> PyResult<T> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.is(&threading.call_method0("current_thread")?);
    py.detach(|| {
        let (asked, raised) = (Cell::new(Instant::now()), RefCell::new(None));
        let interrupted = || {
            if !main || asked.get().elapsed() < PATIENCE {
                return false;
            }
            let signals = Python::attach(|py| py.check_signals());
            asked.set(Instant::now());
            signals.map_err(|error| raised.replace(Some(error))).is_err()
        };
        let found = kernel(Threads::new(threads, &interrupted));
        match raised.take() {
            Some(error) => Err(error),
            None => Ok(found?),
        }
    })
}

/// The last axis of an array belongs to the labels: `rows` long, and not merely a multiple of it in all.
fn fitting(name: &str, columns: usize, labels: usize) -> PyResult<()> {
    if columns == labels {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{name} have {columns} entries in the last axis, expected {labels} as labels")))
}

fn owned<T: Element + Copy, D: Dimension>(array: &PyReadonlyArray<'_, T, D>) -> PyResult<Vec<T>> {
    Ok(array.as_slice()?.to_vec())
}

/// Labels, of which any byte but 0 is true: numpy keeps bytes as they are where other memory is viewed as bool.
fn labels_of<D: Dimension>(array: &PyReadonlyArray<'_, bool, D>) -> PyResult<Vec<bool>> {
    let labels = array.as_slice()?;
    // SAFETY: a bool is a byte, and these are initialised; as bytes they may hold anything.
    let bytes = unsafe { std::slice::from_raw_parts(labels.as_ptr().cast::<u8>(), labels.len()) };
    Ok(bytes.iter().map(|byte| *byte != 0).collect())
}

fn owned_or_none<T: Element + Copy>(array: Option<PyReadonlyArray1<'_, T>>) -> PyResult<Option<Vec<T>>> {
    array.as_ref().map(owned).transpose()
}

fn shaped<'py, T: Element>(py: Python<'py>, values: Vec<T>, shape: [usize; 2]) -> PyResult<Bound<'py, PyArray2<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

fn cube<'py, T: Element>(py: Python<'py>, values: Vec<T>, shape: [usize; 3]) -> PyResult<Bound<'py, PyArray3<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}

fn named<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> PyResult<T> {
    choices.iter().find(|(choice, _)| *choice == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(choice, _)| format!("{choice:?}")).collect();
        PyValueError::new_err(format!("{what} is {name:?}, expected one of {}", names.join(", ")))
    })
}

/// Scores [tensors, rows, directions] of stored rows; directions [1 or tensors, directions, width].
#[pyfunction]
fn project<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    tensors: Vec<String>,
    directions: PyReadonlyArray3<'py, f64>,
    per_tensor: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let (values, shape) = (owned(&directions)?, directions.as_array().dim());
    let (_, count, width) = shape;
    let found = run(py, threads, |threads| {
        let directions = DirectionSet { values: &values, count, width, per_tensor };
        crate::linear::project::project(&paths, &tensors, &directions, threads)
    })?;
    cube(py, found.scores, [tensors.len(), found.rows, count])
}

/// Means [tensors, classes, width] of stored rows by label.
#[pyfunction]
fn class_means<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    tensors: Vec<String>,
    labels: PyReadonlyArray1<'py, i32>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let labels = owned(&labels)?;
    let found = run(py, threads, |threads| crate::linear::means::class_means(&paths, &tensors, &labels, threads))?;
    cube(py, found.means, [tensors.len(), found.counts.len(), found.width])
}

/// Products [tensors, rows, rows] of all pairs of stored rows.
#[pyfunction]
fn gram<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    tensors: Vec<String>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let found = run(py, threads, |threads| crate::linear::products::gram(&paths, &tensors, threads))?;
    cube(py, found.products, [tensors.len(), found.rows, found.rows])
}

type Moments<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray3<f64>>, Bound<'py, PyArray4<f64>>);

/// Rows [classes], means [tensors, classes, width] and scatter matrices [tensors, classes, width, width] by label.
#[pyfunction]
fn moments<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    tensors: Vec<String>,
    labels: Option<PyReadonlyArray1<'py, i32>>,
    threads: usize,
) -> PyResult<Moments<'py>> {
    let labels = owned_or_none(labels)?;
    let found =
        run(py, threads, |threads| crate::linear::products::moments(&paths, &tensors, labels.as_deref(), threads))?;
    let (shape, width) = ([tensors.len(), found.counts.len(), found.width], found.width);
    Ok((
        PyArray1::from_vec(py, found.counts),
        cube(py, found.means, shape)?,
        PyArray1::from_vec(py, found.scatter).reshape([shape[0], shape[1], width, width])?,
    ))
}

/// AUC ("auc") or average precision ("average_precision") of each method; scores [methods, rows].
#[pyfunction]
fn rank<'py>(
    py: Python<'py>,
    metric: &str,
    scores: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, bool>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let metrics = [("auc", Metric::Auc), ("average_precision", Metric::AveragePrecision)];
    let metric = named("metric", metric, &metrics)?;
    fitting("scores", scores.as_array().ncols(), labels.as_array().len())?;
    let (scores, labels, weights) = (owned(&scores)?, labels_of(&labels)?, owned_or_none(weights)?);
    let found =
        run(py, threads, |threads| crate::ranking::rank(metric, &scores, &labels, weights.as_deref(), threads))?;
    Ok(PyArray1::from_vec(py, found))
}

/// Placement values [methods, rows] of scores [methods, rows].
#[pyfunction]
fn placements<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, bool>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (rows, columns) = scores.as_array().dim();
    fitting("scores", columns, labels.as_array().len())?;
    let (scores, labels) = (owned(&scores)?, labels_of(&labels)?);
    let found = run(py, threads, |threads| crate::ranking::placement::placements(&scores, &labels, threads))?;
    shaped(py, found, [rows, columns])
}

type Curve<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

/// False positive rates, true positive rates and thresholds.
#[pyfunction]
fn roc<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray1<'py, f64>,
    labels: PyReadonlyArray1<'py, bool>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
) -> PyResult<Curve<'py>> {
    fitting("scores", scores.as_array().len(), labels.as_array().len())?;
    let (scores, labels, weights) = (owned(&scores)?, labels_of(&labels)?, owned_or_none(weights)?);
    let curve = run(py, 1, |_| crate::ranking::roc(&scores, &labels, weights.as_deref()))?;
    Ok((
        PyArray1::from_vec(py, curve.false_positive_rate),
        PyArray1::from_vec(py, curve.true_positive_rate),
        PyArray1::from_vec(py, curve.thresholds),
    ))
}

/// AUC of each method over matched pairs, and the number of pairs; scores [methods, rows].
#[pyfunction]
fn caliper_auc<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, bool>,
    covariate: PyReadonlyArray1<'py, f64>,
    stratum: PyReadonlyArray1<'py, i64>,
    caliper: f64,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray1<f64>>, u64)> {
    fitting("scores", scores.as_array().ncols(), labels.as_array().len())?;
    let (scores, labels) = (owned(&scores)?, labels_of(&labels)?);
    let (covariate, stratum) = (owned(&covariate)?, owned(&stratum)?);
    let (areas, pairs) = run(py, threads, |threads| {
        crate::ranking::caliper::caliper_auc(&scores, &labels, &covariate, &stratum, caliper, threads)
    })?;
    Ok((PyArray1::from_vec(py, areas), pairs))
}

type Thresholds<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<bool>>);

/// Threshold, value of the objective there, and whether it beats flagging everything, of each method; scores
/// [methods, rows].
#[pyfunction]
fn sweep_threshold<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, bool>,
    groups: Option<PyReadonlyArray1<'py, i64>>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
    objective: &str,
    threads: usize,
) -> PyResult<Thresholds<'py>> {
    let objectives = [
        ("macro_f1", Objective::MacroF1),
        ("balanced_f1", Objective::BalancedF1),
        ("balanced_accuracy", Objective::BalancedAccuracy),
    ];
    let objective = named("objective", objective, &objectives)?;
    fitting("scores", scores.as_array().ncols(), labels.as_array().len())?;
    let (scores, labels) = (owned(&scores)?, labels_of(&labels)?);
    let (groups, weights) = (owned_or_none(groups)?, owned_or_none(weights)?);
    let found = run(py, threads, |threads| {
        crate::ranking::threshold::sweep(&scores, &labels, groups.as_deref(), weights.as_deref(), objective, threads)
    })?;
    Ok((
        PyArray1::from_iter(py, found.iter().map(|best| best.threshold)),
        PyArray1::from_iter(py, found.iter().map(|best| best.value)),
        PyArray1::from_iter(py, found.iter().map(|best| best.informative)),
    ))
}

type Estimates<'py> =
    (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray3<f64>>);

/// Estimates, lower and upper ends [methods, groups], and replicates [resamples, methods, groups].
#[pyfunction]
fn bootstrap<'py>(
    py: Python<'py>,
    statistic: &str,
    values: PyReadonlyArray2<'py, f64>,
    labels: Option<PyReadonlyArray1<'py, bool>>,
    groups: Option<PyReadonlyArray1<'py, i64>>,
    clusters: Option<PyReadonlyArray1<'py, i64>>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
    average: &str,
    reference: Option<usize>,
    resamples: usize,
    confidence: f64,
    interval: &str,
    seed: u64,
    threads: usize,
) -> PyResult<Estimates<'py>> {
    let statistics = [
        ("auc", Statistic::Auc),
        ("average_precision", Statistic::AveragePrecision),
        ("f1", Statistic::F1),
        ("balanced_accuracy", Statistic::BalancedAccuracy),
        ("rate", Statistic::Rate),
        ("selectivity", Statistic::Selectivity),
    ];
    let averages = [
        ("none", Average { groups: false, methods: false }),
        ("groups", Average { groups: true, methods: false }),
        ("methods", Average { groups: false, methods: true }),
        ("both", Average { groups: true, methods: true }),
    ];
    let kinds = [("percentile", Kind::Percentile), ("bca", Kind::Bca), ("studentized", Kind::Studentized)];
    let options = Options {
        statistic: named("statistic", statistic, &statistics)?,
        average: named("average", average, &averages)?,
        reference,
        resamples,
        confidence,
        kind: named("interval", interval, &kinds)?,
        seed,
    };
    let rows = values.as_array().ncols();
    let (values, labels, weights) =
        (owned(&values)?, labels.as_ref().map(labels_of).transpose()?, owned_or_none(weights)?);
    let (groups, clusters) = (owned_or_none(groups)?, owned_or_none(clusters)?);
    let found = run(py, threads, |threads| {
        let sample = Sample {
            values: &values,
            rows,
            labels: labels.as_deref(),
            groups: groups.as_deref(),
            clusters: clusters.as_deref(),
            weights: weights.as_deref(),
        };
        crate::bootstrap::bootstrap(&sample, &options, threads)
    })?;
    let shape = [found.methods, found.groups];
    Ok((
        shaped(py, found.estimate, shape)?,
        shaped(py, found.low, shape)?,
        shaped(py, found.high, shape)?,
        cube(py, found.replicates, [resamples, shape[0], shape[1]])?,
    ))
}

/// CRC-32 of a part of a file.
#[pyfunction]
fn crc32(py: Python<'_>, path: PathBuf, start: u64, length: u64) -> PyResult<u32> {
    run(py, 1, |threads| crate::store::checksum::of_span(&path, start, length, threads))
}

/// Wilson's interval for a proportion.
#[pyfunction]
fn wilson(successes: f64, n: f64, confidence: f64) -> PyResult<(f64, f64)> {
    Ok(crate::numeric::normal::wilson(successes, n, confidence)?)
}

type Fits<'py> = (
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
);

/// Mean, scale and weights [fits, features], bias and convergence [fits].
#[pyfunction]
fn fit_logistic<'py>(
    py: Python<'py>,
    source: PyReadonlyArray2<'py, f64>,
    source_labels: PyReadonlyArray1<'py, bool>,
    extra: PyReadonlyArray3<'py, f64>,
    extra_labels: PyReadonlyArray2<'py, bool>,
    extra_rows: Option<PyReadonlyArray1<'py, i64>>,
    solver: &str,
    initial: Option<PyReadonlyArray1<'py, f64>>,
    threads: usize,
) -> PyResult<Fits<'py>> {
    let solver = named("solver", solver, &[("convex", Solver::Convex), ("adamw", Solver::AdamW)])?;
    let (features, fits) = (source.as_array().ncols(), extra.as_array().dim().0);
    let (source, source_labels) = (owned(&source)?, labels_of(&source_labels)?);
    let (extra, extra_labels) = (owned(&extra)?, labels_of(&extra_labels)?);
    let initial = owned_or_none(initial)?;
    let extra_rows = owned_or_none(extra_rows)?;
    let found = run(py, threads, |threads| {
        let problem = Problem {
            features,
            source: &source,
            source_labels: &source_labels,
            extra: &extra,
            extra_labels: &extra_labels,
            fits,
            extra_rows: extra_rows.as_deref(),
            initial: initial.as_deref(),
        };
        logistic::fit(&problem, solver, threads)
    })?;
    let flat = |part: fn(&logistic::Fit) -> &Vec<f64>| found.iter().flat_map(|fit| part(fit).clone()).collect();
    let shape = [fits, features];
    Ok((
        shaped(py, flat(|fit| &fit.mean), shape)?,
        shaped(py, flat(|fit| &fit.scale), shape)?,
        shaped(py, flat(|fit| &fit.weights), shape)?,
        PyArray1::from_vec(py, found.iter().map(|fit| fit.bias).collect()),
        PyArray1::from_vec(py, found.iter().map(|fit| fit.converged).collect()),
    ))
}

/// Kernels of polygate; `polygate.kernels` documents them and is what to import.
#[pymodule]
fn _kernels(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(project, module)?)?;
    module.add_function(wrap_pyfunction!(class_means, module)?)?;
    module.add_function(wrap_pyfunction!(gram, module)?)?;
    module.add_function(wrap_pyfunction!(moments, module)?)?;
    module.add_function(wrap_pyfunction!(rank, module)?)?;
    module.add_function(wrap_pyfunction!(placements, module)?)?;
    module.add_function(wrap_pyfunction!(roc, module)?)?;
    module.add_function(wrap_pyfunction!(caliper_auc, module)?)?;
    module.add_function(wrap_pyfunction!(sweep_threshold, module)?)?;
    module.add_function(wrap_pyfunction!(bootstrap, module)?)?;
    module.add_function(wrap_pyfunction!(crc32, module)?)?;
    module.add_function(wrap_pyfunction!(wilson, module)?)?;
    module.add_function(wrap_pyfunction!(fit_logistic, module)?)?;
    Ok(())
}

//! Batches of small logistic regressions that share most of their rows.
//!
//! Each fit sees the source rows and a few rows of its own. Features are standardised on the rows of the fit (population
//! standard deviation, 1 for a constant feature), and harmful rows are weighted by negatives / positives, so that both
//! classes count the same. Instead of standardising thousands of rows for each fit, mean and scale are folded into the
//! weights: all fits read the same source rows.

mod adamw;
mod linear;
mod newton;
mod passes;
mod task;

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Stop, Threads};

use newton::Start;
use passes::{Columns, Part};
use task::Task;

pub use adamw::{BETA1, BETA2, EPOCHS, EPSILON, LEARNING_RATE, WEIGHT_DECAY};
pub use newton::RIDGE;

/// How the loss is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Newton's method to convergence, with a small ridge.
    Convex,
    /// A fixed number of full-batch AdamW epochs, as torch does them.
    AdamW,
}

/// Rows of all fits, row-major.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// Number of features.
    pub features: usize,
    /// [rows, features] shared by all fits.
    pub source: &'a [f64],
    /// [rows] harmful.
    pub source_labels: &'a [bool],
    /// [fits, extra rows, features].
    pub extra: &'a [f64],
    /// [fits, extra rows] harmful.
    pub extra_labels: &'a [bool],
    /// Number of fits.
    pub fits: usize,
    /// How many of its extra rows each fit has [fits], all by default; those after them are not read.
    pub extra_rows: Option<&'a [i64]>,
    /// Weights that AdamW starts from, 0 by default; the bias starts at 0.
    pub initial: Option<&'a [f64]>,
}

/// A fitted model: the logit of x is weights·(x - mean)/scale + bias.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Mean of each feature.
    pub mean: Vec<f64>,
    /// Population standard deviation of each feature, 1 for a constant one.
    pub scale: Vec<f64>,
    /// Weight of each standardised feature.
    pub weights: Vec<f64>,
    /// Bias.
    pub bias: f64,
    /// Whether the gradient is 0 to rounding; never true of AdamW, which stops after its epochs.
    pub converged: bool,
}

/// Source rows, centred and split by class, with what the standardisation of a fit needs of them.
struct Source {
    centre: Vec<f64>,
    /// Σ (x - centre)², smallest and largest value of each feature.
    squares: Vec<f64>,
    least: Vec<f64>,
    most: Vec<f64>,
    harmful: Columns,
    harmless: Columns,
}

impl Source {
    fn new(problem: &Problem) -> Self {
        let features = problem.features;
        let rows = problem.source.chunks_exact(features);
        let count = rows.len() as f64;
        let mut centre = vec![0.0; features];
        rows.clone().for_each(|row| centre.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        centre.iter_mut().for_each(|sum| *sum /= count);
        let centred: Vec<f64> = rows.flat_map(|row| row.iter().zip(&centre).map(|(x, mean)| x - mean)).collect();
        let mut squares = vec![0.0; features];
        let (mut least, mut most) = (vec![f64::INFINITY; features], vec![f64::NEG_INFINITY; features]);
        for row in centred.chunks_exact(features) {
            for feature in 0..features {
                squares[feature] += row[feature] * row[feature];
                least[feature] = least[feature].min(row[feature]);
                most[feature] = most[feature].max(row[feature]);
            }
        }
        let harmful = Columns::new(&centred, problem.source_labels, features, true);
        let harmless = Columns::new(&centred, problem.source_labels, features, false);
        Self { centre, squares, least, most, harmful, harmless }
    }
}

impl<'a> Problem<'a> {
    /// A fit's own rows and their labels.
    fn own(&self, index: usize) -> (&'a [f64], &'a [bool]) {
        let width = self.extra_labels.len() / self.fits;
        let rows = index * width..index * width + self.extra_rows.map_or(width, |rows| rows[index] as usize);
        (&self.extra[rows.start * self.features..rows.end * self.features], &self.extra_labels[rows])
    }
}

/// All fits of a problem, in their order.
pub fn fit<'a>(problem: &Problem, solver: Solver, threads: impl Into<Threads<'a>>) -> Result<Vec<Fit>> {
    check(problem)?;
    let source = Source::new(problem);
    let both_classes = source.harmful.rows() > 0 && source.harmless.rows() > 0;
    let start = (solver == Solver::Convex && both_classes).then(|| {
        let none = [true, false].map(|class| Columns::new(&[], &[], problem.features, class));
        let (mean, scale) = standardise(&source, &[], problem.source_labels.len(), problem.features);
        Start::new(&task(&source, &none, mean, scale))
    });
    threads::map(threads.into(), problem.fits, |index, stop| {
        fit_one(problem, &source, start.as_ref(), solver, index, stop)
    })
}

fn fit_one(
    problem: &Problem,
    source: &Source,
    start: Option<&Start>,
    solver: Solver,
    index: usize,
    stop: &Stop,
) -> Fit {
    let features = problem.features;
    let (extra, labels) = problem.own(index);
    let extra: Vec<f64> =
        extra.chunks_exact(features).flat_map(|row| row.iter().zip(&source.centre).map(|(x, mean)| x - mean)).collect();
    let (mean, scale) = standardise(source, &extra, problem.source_labels.len(), features);
    let own = [true, false].map(|class| Columns::new(&extra, labels, features, class));
    let task = task(source, &own, mean, scale);
    let zeros = vec![0.0; features];
    let initial = problem.initial.unwrap_or(&zeros);
    let (weights, bias, converged) = match solver {
        Solver::Convex => newton::minimise(&task, start),
        Solver::AdamW => adamw::minimise(&task, initial, stop),
    };
    let mean = task.mean.iter().zip(&source.centre).map(|(mean, centre)| mean + centre).collect();
    Fit { mean, scale: task.scale, weights, bias, converged }
}

fn task<'a>(source: &'a Source, own: &'a [Columns; 2], mean: Vec<f64>, scale: Vec<f64>) -> Task<'a> {
    let harmful = (source.harmful.rows() + own[0].rows()) as f64;
    let harmless = (source.harmless.rows() + own[1].rows()) as f64;
    let balance = harmless / harmful;
    Task {
        parts: [
            Part { columns: &source.harmful, target: 1.0, weight: balance },
            Part { columns: &own[0], target: 1.0, weight: balance },
            Part { columns: &source.harmless, target: 0.0, weight: 1.0 },
            Part { columns: &own[1], target: 0.0, weight: 1.0 },
        ],
        rows: harmful + harmless,
        mean,
        scale,
    }
}

/// Mean and standard deviation over source rows and extra rows, the source rows' sums being known.
fn standardise(source: &Source, extra: &[f64], source_rows: usize, features: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = extra.chunks_exact(features);
    let count = (source_rows + rows.len()) as f64;
    let mut mean = vec![0.0; features];
    rows.clone().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    mean.iter_mut().for_each(|sum| *sum /= count);
    let scale = (0..features)
        .map(|feature| {
            let values = rows.clone().map(|row| row[feature]);
            let least = values.clone().fold(source.least[feature], f64::min);
            let most = values.clone().fold(source.most[feature], f64::max);
            let own: f64 = values.map(|x| (x - mean[feature]) * (x - mean[feature])).sum();
            let squares = source.squares[feature] + source_rows as f64 * mean[feature] * mean[feature] + own;
            let deviation = (squares / count).sqrt();
            if least == most || deviation == 0.0 { 1.0 } else { deviation }
        })
        .collect();
    (mean, scale)
}

fn check(problem: &Problem) -> Result<()> {
    let Problem { features, source, source_labels, extra, extra_labels, fits, extra_rows, initial } = *problem;
    if features == 0 || source_labels.is_empty() {
        return invalid!("source is empty: shape [{}, {features}]", source_labels.len());
    }
    checks::length("source", source.len(), source_labels.len() * features, "rows × features")?;
    if fits == 0 {
        return invalid!("extra holds no fits");
    }
    checks::length("extra", extra.len(), extra_labels.len() * features, "fits × rows × features")?;
    checks::finite("source", source)?;
    let width = extra_labels.len() / fits;
    if let Some(rows) = extra_rows {
        checks::length("extra_rows", rows.len(), fits, "fits")?;
        if let Some(index) = rows.iter().position(|rows| !(0..=width as i64).contains(rows)) {
            return invalid!("extra_rows[{index}] is {}, expected 0 … {width} as extra has rows", rows[index]);
        }
    }
    if let Some(initial) = initial {
        checks::length("initial", initial.len(), features, "features")?;
        checks::finite("initial", initial)?;
    }
    let harmful = source_labels.iter().filter(|label| **label).count();
    for index in 0..fits {
        let (rows, labels) = problem.own(index);
        checks::finite(&format!("extra[{index}]"), rows)?;
        let own = labels.iter().filter(|label| **label).count();
        let (positives, rows) = (harmful + own, source_labels.len() + labels.len());
        if positives == 0 || positives == rows {
            return invalid!("fit {index} holds a single class: {positives} harmful of {rows} rows");
        }
    }
    Ok(())
}

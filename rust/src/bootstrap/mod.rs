//! Bootstrap intervals of metrics: stratified by class, paired over methods, clustered by prompt.
//!
//! Every resample draws units (prompts, or rows where no clusters are given) with replacement within their class and
//! keeps how often each was drawn. All methods and groups of a resample share those counts, which makes differences
//! paired and keeps translations of a prompt together. Scores are sorted once; a resample then costs one pass.

mod cell;
mod design;
mod interval;
mod sample;

use std::ops::Range;

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::normal::check_confidence;
use crate::numeric::random::{Counts, SIDE, Streams};
use crate::numeric::threads::{self, Stop, Threads};

use cell::{Cell, Side};
use design::{Combination, Design};

pub use sample::{Average, Intervals, Kind, Options, Sample, Statistic};

/// Resamples that a thread makes at a time.
const RESAMPLES: usize = 4 * SIDE;

/// More resamples than anybody has a use for: quantiles have three digits by then.
const MOST_RESAMPLES: usize = 10_000_000;

/// Bootstrap interval of a metric for each method and group. The same for any number of threads.
pub fn bootstrap<'a>(sample: &Sample, options: &Options, threads: impl Into<Threads<'a>>) -> Result<Intervals> {
    let threads = threads.into();
    check(sample, options)?;
    let design = Design::new(sample)?;
    let cells = cell::cells(sample, &design, options.statistic)?;
    let methods = sample.values.len() / sample.rows;
    let combination = Combination::new(methods, design.group_names.len(), options.average, options.reference);
    let outputs = combination.outputs();

    let once = vec![[1; SIDE]; design.units()];
    let values: Vec<f64> = cells.iter().map(|cell| cell.values(&once)[0]).collect();
    let mut estimate = vec![0.0; outputs];
    combination.apply(&values, &mut estimate);

    let streams = Streams::new(options.seed);
    let mut replicates: Vec<f64> = checks::zeros("the bootstrap", &[options.resamples, outputs])?;
    threads::for_pieces(threads, &mut replicates, RESAMPLES * outputs, |piece, replicates, stop| {
        let mut counts = vec![[0; SIDE]; design.units()];
        let mut sides = vec![[0.0; SIDE]; cells.len()];
        let mut values = vec![0.0; cells.len()];
        for (index, replicates) in replicates.chunks_mut(SIDE * outputs).enumerate() {
            let first = piece * RESAMPLES + index * SIDE;
            let numbers = first..first + replicates.len() / outputs;
            resample(&cells, &design, &streams, numbers, &mut counts, &mut sides, stop);
            for (place, replicate) in replicates.chunks_mut(outputs).enumerate() {
                values.iter_mut().zip(&sides).for_each(|(value, side)| *value = side[place]);
                combination.apply(&values, replicate);
            }
        }
    })?;

    let accelerations = match options.kind {
        Kind::Bca => accelerations(&cells, &values, &design, &combination, threads)?,
        _ => vec![0.0; outputs],
    };
    let errors = match options.kind {
        Kind::Studentized => standard_errors(&cells, &design, &combination, &streams, options.resamples, threads)?,
        _ => vec![Vec::new()],
    };
    let ends = threads::map(threads, outputs, |output, _| {
        let column = replicates.iter().skip(output).step_by(outputs).copied();
        let (estimate, level) = (estimate[output], options.confidence);
        match options.kind {
            Kind::Percentile => interval::percentile(column.collect(), level),
            Kind::Bca => interval::bca(column.collect(), estimate, accelerations[output], level),
            Kind::Studentized => {
                let own = errors[1..].iter().map(|errors| errors[output]);
                interval::studentized(column.zip(own), estimate, errors[0][output], level)
            }
        }
    })?;
    let (low, high) = ends.into_iter().unzip();
    Ok(Intervals { methods: combination.methods, groups: combination.groups, estimate, low, high, replicates })
}

/// The metric of every cell on up to `SIDE` resamples; `counts` receives how often each unit was drawn in them.
fn resample(
    cells: &[Cell],
    design: &Design,
    streams: &Streams,
    numbers: Range<usize>,
    counts: &mut [Counts],
    values: &mut [Side],
    stop: &Stop,
) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(
            cells: &[Cell],
            design: &Design,
            streams: &Streams,
            numbers: Range<usize>,
            counts: &mut [Counts],
            values: &mut [Side],
            stop: &Stop,
        ) {
            resample_body(cells, design, streams, numbers, counts, values, stop);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the instructions.
            return unsafe { avx2(cells, design, streams, numbers, counts, values, stop) };
        }
    }
    resample_body(cells, design, streams, numbers, counts, values, stop);
}

#[inline(always)]
fn resample_body(
    cells: &[Cell],
    design: &Design,
    streams: &Streams,
    numbers: Range<usize>,
    counts: &mut [Counts],
    values: &mut [Side],
    stop: &Stop,
) {
    counts.fill([0; SIDE]);
    for (place, number) in numbers.enumerate() {
        design.draw(&mut streams.stream(number as u64), counts, place);
    }
    for (value, cell) in values.iter_mut().zip(cells).take_while(|_| !stop.now()) {
        *value = cell.values(counts);
    }
}

/// Standard errors of all outputs, on the sample itself and then on each resample, drawn once more.
fn standard_errors(
    cells: &[Cell],
    design: &Design,
    combination: &Combination,
    streams: &Streams,
    resamples: usize,
    threads: Threads,
) -> Result<Vec<Vec<f64>>> {
    threads::map(threads, 1 + resamples, |index, _| {
        let mut drawn = vec![1.0; design.units()];
        if let Some(number) = index.checked_sub(1) {
            let mut counts = vec![[0; SIDE]; design.units()];
            design.draw(&mut streams.stream(number as u64), &mut counts, 0);
            drawn.iter_mut().zip(counts).for_each(|(drawn, counts)| *drawn = f64::from(counts[0]));
        }
        let influences: Vec<_> = cells.iter().map(|cell| cell.influences(&drawn)).collect();
        let error = |output| {
            let mut sums = vec![0.0; design.units()];
            for &(cell, factor) in combination.terms(output) {
                for &(unit, influence) in &influences[cell] {
                    sums[unit as usize] += factor * influence;
                }
            }
            interval::standard_error(&sums, &drawn, &design.strata)
        };
        (0..combination.outputs()).map(error).collect()
    })
}

/// Acceleration of each output, from the metric with each unit left out in turn.
fn accelerations(
    cells: &[Cell],
    values: &[f64],
    design: &Design,
    combination: &Combination,
    threads: Threads,
) -> Result<Vec<f64>> {
    let left_out = threads::map(threads, cells.len(), |index, stop| cells[index].jackknife(design.units(), stop))?;
    threads::map(threads, combination.outputs(), |output, _| {
        let mut changes = vec![0.0; design.units()];
        for &(cell, factor) in combination.terms(output) {
            for &(unit, value) in &left_out[cell] {
                changes[unit as usize] += factor * (value - values[cell]);
            }
        }
        interval::acceleration(&changes, &design.strata)
    })
}

fn check(sample: &Sample, options: &Options) -> Result<()> {
    let rows = sample.rows;
    if rows == 0 || sample.values.is_empty() {
        return invalid!("values are empty");
    }
    if !(1..=MOST_RESAMPLES).contains(&options.resamples) {
        return invalid!("resamples is {}, expected 1 … {MOST_RESAMPLES}", options.resamples);
    }
    check_confidence(options.confidence)?;
    if options.kind == Kind::Studentized && !options.statistic.has_standard_error() {
        return invalid!(
            "interval is studentized, which takes auc, balanced_accuracy, rate or selectivity: use percentile or bca"
        );
    }
    if let Some(index) = sample.values.iter().position(|value| value.is_infinite()) {
        return invalid!("values[{}, {}] is infinite", index / rows, index % rows);
    }
    if options.statistic.takes_decisions() {
        let foreign = sample.values.iter().find(|value| !(value.is_nan() || **value == 0.0 || **value == 1.0));
        if let Some(value) = foreign {
            return invalid!("values hold {value}, expected decisions 0 or 1 for this statistic");
        }
    }
    let methods = sample.values.len() / rows;
    if let Some(reference) = options.reference.filter(|reference| *reference >= methods) {
        return invalid!("reference is method {reference}, but there are {methods} methods");
    }
    if options.average.methods && options.reference.is_some() && methods < 2 {
        return invalid!("averaging methods minus a reference needs a second method");
    }
    match sample.labels {
        Some(labels) => checks::length("labels", labels.len(), rows, "columns of values")?,
        None if options.statistic.needs_labels() => return invalid!("this statistic needs labels"),
        None => {}
    }
    if options.statistic.needs_labels() {
        checks::both_classes(sample.labels.unwrap_or(&[]))?;
    }
    if let Some(clusters) = sample.clusters {
        checks::length("clusters", clusters.len(), rows, "columns of values")?;
    }
    if let Some(weights) = sample.weights {
        checks::length("weights", weights.len(), rows, "columns of values")?;
        checks::weights(weights)?;
    }
    Ok(())
}

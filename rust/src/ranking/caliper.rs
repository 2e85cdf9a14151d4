//! AUC over matched pairs only: the rank-based control for a surface cue such as prompt length.

use std::ops::Range;

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};

/// AUC over the harmful-harmless pairs that are alike, for each method, and the number of such pairs.
///
/// A pair is alike when its strata are equal and its covariates differ by at most `caliper`. `scores` is
/// [methods, rows]. NaN where no pair is alike. Takes time in proportion to the number of pairs.
pub fn caliper_auc<'a>(
    scores: &[f64],
    labels: &[bool],
    covariate: &[f64],
    stratum: &[i64],
    caliper: f64,
    threads: impl Into<Threads<'a>>,
) -> Result<(Vec<f64>, u64)> {
    check(scores, labels, covariate, stratum, caliper)?;
    let rows = labels.len();
    let harmful = matched_order(labels, covariate, stratum, true);
    let harmless = matched_order(labels, covariate, stratum, false);
    let windows = windows(&harmful, &harmless, covariate, stratum, caliper);
    let pairs: u64 = windows.iter().map(|window| window.len() as u64).sum();
    let areas = threads::map(threads.into(), scores.len() / rows, |method, stop| {
        let scores = &scores[method * rows..(method + 1) * rows];
        let below: Vec<f64> = harmless.iter().map(|&row| scores[row]).collect();
        let won = |(&row, window): (&usize, &Range<usize>)| twice_wins(scores[row], &below[window.clone()]);
        let doubled: u64 = harmful.iter().zip(&windows).take_while(|_| !stop.now()).map(won).sum();
        if pairs == 0 { f64::NAN } else { doubled as f64 / (2 * pairs) as f64 }
    })?;
    Ok((areas, pairs))
}

/// Rows of a class by stratum, then covariate.
fn matched_order(labels: &[bool], covariate: &[f64], stratum: &[i64], class: bool) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == class).collect();
    rows.sort_by(|&a, &b| stratum[a].cmp(&stratum[b]).then(covariate[a].total_cmp(&covariate[b])));
    rows
}

/// For each harmful row the range of `harmless` that it is alike to: one range, as both are sorted.
fn windows(
    harmful: &[usize],
    harmless: &[usize],
    covariate: &[f64],
    stratum: &[i64],
    caliper: f64,
) -> Vec<Range<usize>> {
    let (mut first, mut end) = (0, 0);
    let mut ranges = Vec::with_capacity(harmful.len());
    for &row in harmful {
        let before = |other: usize| {
            stratum[other] < stratum[row]
                || (stratum[other] == stratum[row] && covariate[row] - covariate[other] > caliper)
        };
        let within = |other: usize| {
            stratum[other] < stratum[row]
                || (stratum[other] == stratum[row] && covariate[other] - covariate[row] <= caliper)
        };
        while first < harmless.len() && before(harmless[first]) {
            first += 1;
        }
        end = end.max(first);
        while end < harmless.len() && within(harmless[end]) {
            end += 1;
        }
        ranges.push(first..end);
    }
    ranges
}

/// Two for each score below, one for each equal one.
fn twice_wins(score: f64, others: &[f64]) -> u64 {
    others.iter().map(|&other| u64::from(score > other) + u64::from(score >= other)).sum()
}

fn check(scores: &[f64], labels: &[bool], covariate: &[f64], stratum: &[i64], caliper: f64) -> Result<()> {
    checks::both_classes(labels)?;
    if scores.is_empty() || !scores.len().is_multiple_of(labels.len()) {
        return invalid!("scores have {} entries, expected a multiple of {} as labels", scores.len(), labels.len());
    }
    checks::finite("scores", scores)?;
    checks::length("covariate", covariate.len(), labels.len(), "labels")?;
    checks::finite("covariate", covariate)?;
    checks::length("stratum", stratum.len(), labels.len(), "labels")?;
    if caliper.is_nan() || caliper < 0.0 {
        return invalid!("caliper is {caliper}, expected a number ≥ 0");
    }
    Ok(())
}

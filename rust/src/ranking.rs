//! How well scores rank harmful prompts above harmless ones: AUC, average precision, ROC curve.
//!
//! A positive is a harmful row. Equal scores form one block: AUC counts a tied pair as half (mid-ranks, Hanley &
//! McNeil 1982), average precision and the ROC curve step over a block at once, so the order of rows never matters.
//! Counts are sums of weights in float64, which is exact for up to 2⁵³ pairs of unweighted rows.

use crate::checks;
use crate::error::{Result, invalid};
use crate::threads;

/// Harmful and harmless weight at one distinct score.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The score.
    pub score: f64,
    /// Weight of the positives with that score.
    pub positive: f64,
    /// Weight of the negatives with that score.
    pub negative: f64,
}

/// Key whose unsigned order is the order of the floats; -0 and 0 are equal.
pub fn order_key(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

/// The float of an `order_key`.
pub fn score_of(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

/// Blocks in ascending order of score; `blocks(scores, labels, None)` weighs each row 1.
pub fn blocks(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Vec<Block> {
    match weights {
        None => merge(&sorted_keys(scores, labels, true), &sorted_keys(scores, labels, false), |key| (*key, 1.0)),
        Some(weights) => {
            merge(&sorted_pairs(scores, labels, weights, true), &sorted_pairs(scores, labels, weights, false), |pair| {
                *pair
            })
        }
    }
}

// Sorting the classes apart and merging them is about twice as fast as sorting (score, label) pairs together.
fn sorted_keys(scores: &[f64], labels: &[bool], class: bool) -> Vec<u64> {
    let rows = scores.iter().zip(labels);
    let mut keys: Vec<u64> = rows.filter(|(_, label)| **label == class).map(|(score, _)| order_key(*score)).collect();
    keys.sort_unstable();
    keys
}

fn sorted_pairs(scores: &[f64], labels: &[bool], weights: &[f64], class: bool) -> Vec<(u64, f64)> {
    let rows = scores.iter().zip(labels).zip(weights);
    let mut pairs: Vec<(u64, f64)> = rows
        .filter(|((_, label), _)| **label == class)
        .map(|((score, _), weight)| (order_key(*score), *weight))
        .collect();
    // By weight within a score, so that sums don't depend on the order of rows.
    pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    pairs
}

fn merge<T>(positives: &[T], negatives: &[T], item: impl Fn(&T) -> (u64, f64)) -> Vec<Block> {
    let mut merged = Vec::with_capacity(positives.len() + negatives.len());
    let (mut i, mut j) = (0, 0);
    while i < positives.len() || j < negatives.len() {
        let key = match (positives.get(i), negatives.get(j)) {
            (Some(p), Some(n)) => item(p).0.min(item(n).0),
            (Some(p), None) => item(p).0,
            (None, Some(n)) => item(n).0,
            (None, None) => unreachable!("one of the two has rows left"),
        };
        let mut block = Block { score: score_of(key), positive: 0.0, negative: 0.0 };
        while let Some((_, weight)) = positives.get(i).map(&item).filter(|(k, _)| *k == key) {
            block.positive += weight;
            i += 1;
        }
        while let Some((_, weight)) = negatives.get(j).map(&item).filter(|(k, _)| *k == key) {
            block.negative += weight;
            j += 1;
        }
        merged.push(block);
    }
    merged
}

/// Area under the ROC curve of blocks in ascending order.
pub fn auc_of(blocks: &[Block]) -> f64 {
    let (mut below, mut positives, mut doubled) = (0.0, 0.0, 0.0);
    for block in blocks {
        doubled += block.positive * (2.0 * below + block.negative);
        below += block.negative;
        positives += block.positive;
    }
    doubled / (2.0 * positives * below)
}

/// Average precision of blocks in ascending order: the sum over blocks, from the top, of recall gained × precision.
pub fn average_precision_of(blocks: &[Block]) -> f64 {
    let (mut flagged, mut hits, mut sum) = (0.0, 0.0, 0.0);
    for block in blocks.iter().rev() {
        flagged += block.positive + block.negative;
        hits += block.positive;
        if block.positive > 0.0 {
            sum += block.positive * hits / flagged;
        }
    }
    sum / hits
}

/// What to compute from a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Area under the ROC curve.
    Auc,
    /// Average precision.
    AveragePrecision,
}

/// A ranking metric for each of the methods in `scores` [methods, rows].
pub fn rank(
    metric: Metric,
    scores: &[f64],
    labels: &[bool],
    weights: Option<&[f64]>,
    threads: usize,
) -> Result<Vec<f64>> {
    check(scores, labels, weights)?;
    let rows = labels.len();
    threads::map(threads, scores.len() / rows, |method| {
        let blocks = blocks(&scores[method * rows..(method + 1) * rows], labels, weights);
        match metric {
            Metric::Auc => auc_of(&blocks),
            Metric::AveragePrecision => average_precision_of(&blocks),
        }
    })
}

/// A ROC curve, from the strictest threshold to the laxest.
pub struct Roc {
    /// False positive rates, ascending from 0 to 1.
    pub false_positive_rate: Vec<f64>,
    /// True positive rates, ascending from 0 to 1.
    pub true_positive_rate: Vec<f64>,
    /// A row is flagged when its score ≥ the threshold; the first is +∞ and flags nothing.
    pub thresholds: Vec<f64>,
}

/// The ROC curve, one point for each distinct score, none left out.
pub fn roc(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Result<Roc> {
    check(scores, labels, weights)?;
    let blocks = blocks(scores, labels, weights);
    let positives: f64 = blocks.iter().rev().map(|block| block.positive).sum();
    let negatives: f64 = blocks.iter().rev().map(|block| block.negative).sum();
    let mut curve =
        Roc { false_positive_rate: vec![0.0], true_positive_rate: vec![0.0], thresholds: vec![f64::INFINITY] };
    let (mut hits, mut alarms) = (0.0, 0.0);
    for block in blocks.iter().rev() {
        hits += block.positive;
        alarms += block.negative;
        curve.true_positive_rate.push(hits / positives);
        curve.false_positive_rate.push(alarms / negatives);
        curve.thresholds.push(block.score);
    }
    Ok(curve)
}

fn check(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Result<()> {
    checks::both_classes(labels)?;
    if scores.is_empty() || !scores.len().is_multiple_of(labels.len()) {
        return invalid!("scores have {} entries, expected a multiple of {} as labels", scores.len(), labels.len());
    }
    checks::finite("scores", scores)?;
    let Some(weights) = weights else { return Ok(()) };
    checks::length("weights", weights.len(), labels.len(), "labels")?;
    checks::weights(weights)?;
    for class in [true, false] {
        let total: f64 = labels.iter().zip(weights).filter(|(label, _)| **label == class).map(|(_, w)| w).sum();
        if total <= 0.0 {
            return invalid!("the {} rows have no weight", if class { "harmful" } else { "harmless" });
        }
    }
    Ok(())
}

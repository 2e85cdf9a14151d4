//! How well scores rank harmful prompts above harmless ones: AUC, average precision, ROC curve.
//!
//! A positive is a harmful row. Equal scores form one block: AUC counts a tied pair as half (mid-ranks, Hanley &
//! McNeil 1982), average precision and the ROC curve step over a block at once, so the order of rows never matters.
//! Counts are sums of weights in float64, which is exact for up to 2⁵³ pairs of unweighted rows.

pub mod caliper;
pub mod placement;
pub mod threshold;

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};

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

/// Set in the last row of each block of an `ascending` order.
pub const END: u32 = 1 << 31;

/// Rows in ascending order of score, those of one score by number; `END` marks the last row of each distinct score.
///
/// A radix sort on the scores' places between the least and the greatest of them, which rounding can only tie and never
/// swap; rows that share a place are then sorted by their exact scores.
pub fn ascending(scores: &[f64], keep: impl Fn(usize) -> bool) -> Vec<u32> {
    debug_assert!(scores.len() < END as usize, "row numbers take 31 bits");
    let (least, most) = range(scores);
    let digits = match scores.len() {
        ..FEW => 0,
        FEW..MANY => 2,
        _ => 3,
    };
    let top = (1_u64 << (DIGIT * digits)).min(1 << 32) - 1;
    // Halves, since the difference of two finite scores may be infinite.
    let factor = top as f64 / (most / 2.0 - least / 2.0);
    let factor = if factor.is_finite() { factor } else { 0.0 };
    // Adding 2⁵² rounds to a whole number and leaves it in the low bits.
    let place = |score: f64| ((score / 2.0 - least / 2.0) * factor + 4_503_599_627_370_496.0).to_bits() << 32;
    let rows = scores.iter().enumerate().filter(|(row, _)| keep(*row));
    let mut entries: Vec<u64> = rows.map(|(row, score)| place(*score) | row as u64).collect();
    sort_by_place(&mut entries, digits);
    let mut rows: Vec<u32> = entries.iter().map(|entry| *entry as u32).collect();
    let mut start = 0;
    while start < rows.len() {
        let place = entries[start] >> 32;
        let mut end = start + 1;
        while end < rows.len() && entries[end] >> 32 == place {
            end += 1;
        }
        if end - start > 1 {
            finish(&mut rows[start..end], scores);
        }
        rows[end - 1] |= END;
        start = end;
    }
    rows
}

/// Least and greatest score, eight at a time.
fn range(scores: &[f64]) -> (f64, f64) {
    let (mut least, mut most) = ([f64::INFINITY; 8], [f64::NEG_INFINITY; 8]);
    let (eights, rest) = scores.as_chunks::<8>();
    for eight in eights {
        for lane in 0..8 {
            least[lane] = if eight[lane] < least[lane] { eight[lane] } else { least[lane] };
            most[lane] = if eight[lane] > most[lane] { eight[lane] } else { most[lane] };
        }
    }
    let all = |lanes: [f64; 8], choose: fn(f64, f64) -> f64| lanes.iter().chain(rest).copied().reduce(choose);
    (all(least, f64::min).unwrap_or(0.0), all(most, f64::max).unwrap_or(0.0))
}

/// Bits by which the radix sort proceeds.
const DIGIT: u32 = 11;
/// Below so many rows a comparison sort is faster; from `MANY` on two digits would leave too many ties.
const FEW: usize = 400;
const MANY: usize = 1 << 18;

fn sort_by_place(entries: &mut Vec<u64>, digits: u32) {
    const SIZE: usize = 1 << DIGIT;
    let mut sorted = vec![0; entries.len()];
    for shift in (0..digits).map(|digit| 32 + DIGIT * digit) {
        let digit = |entry: u64| (entry >> shift) as usize % SIZE;
        let mut starts = [0_u32; SIZE];
        entries.iter().for_each(|entry| starts[digit(*entry)] += 1);
        let mut sum = 0;
        for start in &mut starts {
            (*start, sum) = (sum, sum + *start);
        }
        for &entry in entries.iter() {
            let start = &mut starts[digit(entry)];
            sorted[*start as usize] = entry;
            *start += 1;
        }
        std::mem::swap(entries, &mut sorted);
    }
}

/// Sorts rows by exact score and marks the blocks within them.
fn finish(rows: &mut [u32], scores: &[f64]) {
    let key = |row: u32| order_key(scores[row as usize]);
    rows.sort_unstable_by_key(|row| (key(*row), *row));
    for at in 1..rows.len() {
        if key(rows[at - 1]) != key(rows[at]) {
            rows[at - 1] |= END;
        }
    }
}

/// Blocks in ascending order of score; `blocks(scores, labels, None)` weighs each row 1.
pub fn blocks(scores: &[f64], labels: &[bool], weights: Option<&[f64]>) -> Vec<Block> {
    let order = ascending(scores, |_| true);
    let score = |rows: &[u32]| scores[(rows[0] & !END) as usize];
    let block = |rows: &[u32]| {
        let [negative, positive] = match weights {
            None => counts_of(rows, labels),
            Some(weights) => weights_of(rows, labels, weights),
        };
        Block { score: score(rows), positive, negative }
    };
    order.split_inclusive(|entry| entry & END != 0).map(block).collect()
}

/// Harmless and harmful rows of a block.
fn counts_of(rows: &[u32], labels: &[bool]) -> [f64; 2] {
    let positive = rows.iter().filter(|entry| labels[(**entry & !END) as usize]).count();
    [(rows.len() - positive) as f64, positive as f64]
}

/// Harmless and harmful weight of a block, summed from the smallest so that the order of rows doesn't matter.
fn weights_of(rows: &[u32], labels: &[bool], weights: &[f64]) -> [f64; 2] {
    let own = |entry: &u32| (*entry & !END) as usize;
    let mut sums = [0.0; 2];
    if let [entry] = rows {
        sums[usize::from(labels[own(entry)])] = weights[own(entry)];
        return sums;
    }
    let mut sorted: Vec<(f64, bool)> = rows.iter().map(|entry| (weights[own(entry)], labels[own(entry)])).collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    sorted.iter().for_each(|(weight, label)| sums[usize::from(*label)] += weight);
    sums
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

/// AUC of rows that count 1 each, in `ascending` order: one division of whole numbers.
fn auc_of_rows(order: &[u32], labels: &[bool]) -> f64 {
    let (mut below, mut positives, mut doubled) = (0_u64, 0_u64, 0_u64);
    let (mut harmful, mut harmless) = (0, 0);
    for &entry in order {
        let label = u64::from(labels[(entry & !END) as usize]);
        harmful += label;
        harmless += 1 - label;
        if entry & END != 0 {
            doubled += harmful * (2 * below + harmless);
            below += harmless;
            positives += harmful;
            (harmful, harmless) = (0, 0);
        }
    }
    doubled as f64 / (2 * positives * below) as f64
}

/// Average precision of rows that count 1 each, in `ascending` order.
fn average_precision_of_rows(order: &[u32], labels: &[bool]) -> f64 {
    let (mut hits, mut sum, mut gained) = (0_u32, 0.0, 0_u32);
    for at in (0..order.len()).rev() {
        let label = u32::from(labels[(order[at] & !END) as usize]);
        gained += label;
        hits += label;
        // A block is complete when the row below it ends the next one. Without a branch on labels, which nobody can
        // predict: a block without harmful rows adds 0.
        if at == 0 || order[at - 1] & END != 0 {
            sum += f64::from(gained) * f64::from(hits) / (order.len() - at) as f64;
            gained = 0;
        }
    }
    sum / f64::from(hits)
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
pub fn rank<'a>(
    metric: Metric,
    scores: &[f64],
    labels: &[bool],
    weights: Option<&[f64]>,
    threads: impl Into<Threads<'a>>,
) -> Result<Vec<f64>> {
    check(scores, labels, weights)?;
    let rows = labels.len();
    threads::map(threads.into(), scores.len() / rows, |method, _| {
        let scores = &scores[method * rows..(method + 1) * rows];
        match (metric, weights) {
            (Metric::Auc, None) => auc_of_rows(&ascending(scores, |_| true), labels),
            (Metric::AveragePrecision, None) => average_precision_of_rows(&ascending(scores, |_| true), labels),
            (Metric::Auc, _) => auc_of(&blocks(scores, labels, weights)),
            (Metric::AveragePrecision, _) => average_precision_of(&blocks(scores, labels, weights)),
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
    checks::methods(scores, labels)?;
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

//! Placement values: where each row stands among the rows of the other class.

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};
use crate::ranking::order_key;

/// For each harmful row the share of harmless rows below it, for each harmless row the share of harmful rows above it;
/// ties count half. `scores` [methods, rows]; the result has the same shape.
///
/// The mean over the rows of either class is the AUC, and their variances give its standard error (DeLong, DeLong &
/// Clarke-Pearson 1988).
pub fn placements<'a>(scores: &[f64], labels: &[bool], threads: impl Into<Threads<'a>>) -> Result<Vec<f64>> {
    checks::both_classes(labels)?;
    let rows = labels.len();
    if scores.is_empty() || !scores.len().is_multiple_of(rows) {
        return invalid!("scores have {} entries, expected a multiple of {rows} as labels", scores.len());
    }
    checks::finite("scores", scores)?;
    let mut found = checks::zeros("placements", &[scores.len()])?;
    threads::for_pieces(threads.into(), &mut found, rows, |method, out, _| {
        place(&scores[method * rows..(method + 1) * rows], labels, out);
    })?;
    Ok(found)
}

fn place(scores: &[f64], labels: &[bool], out: &mut [f64]) {
    let harmful = labels.iter().filter(|label| **label).count() as u64;
    let harmless = labels.len() as u64 - harmful;
    let mut order: Vec<(u64, u32)> = scores.iter().zip(0u32..).map(|(score, row)| (order_key(*score), row)).collect();
    order.sort_unstable();
    // Rows of each class below the block of equal scores.
    let (mut harmful_below, mut harmless_below) = (0, 0);
    for block in order.chunk_by(|a, b| a.0 == b.0) {
        let own_harmful = block.iter().filter(|(_, row)| labels[*row as usize]).count() as u64;
        let own_harmless = block.len() as u64 - own_harmful;
        let won = (2 * harmless_below + own_harmless) as f64 / (2 * harmless) as f64;
        let above = (2 * (harmful - harmful_below - own_harmful) + own_harmful) as f64 / (2 * harmful) as f64;
        for &(_, row) in block {
            out[row as usize] = if labels[row as usize] { won } else { above };
        }
        harmful_below += own_harmful;
        harmless_below += own_harmless;
    }
}

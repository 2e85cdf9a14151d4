//! One method in one group: its metric as a function of how often each unit was drawn.

use crate::error::{Result, invalid};
use crate::ranking::order_key;

use super::design::Design;
use super::{Sample, Statistic};

/// A method in a group, sorted once.
pub enum Cell {
    /// Area under the ROC curve.
    Auc(AucCell),
    /// Average precision.
    AveragePrecision(AveragePrecisionCell),
    /// Metrics that are functions of sums over rows.
    Sums(SumsCell),
}

#[derive(Clone, Copy)]
struct Row {
    unit: u32,
    value: f64,
    harmful: bool,
    weight: f64,
}

/// The cells of a sample, method-major.
pub fn cells(sample: &Sample, design: &Design, statistic: Statistic) -> Result<Vec<Cell>> {
    let methods = sample.values.len() / sample.rows;
    let groups = design.group_names.len();
    let mut rows: Vec<Vec<Row>> = vec![Vec::new(); methods * groups];
    for method in 0..methods {
        for row in 0..sample.rows {
            let value = sample.values[method * sample.rows + row];
            if value.is_nan() {
                continue;
            }
            rows[method * groups + design.group_of_row[row] as usize].push(Row {
                unit: design.unit_of_row[row],
                value,
                harmful: sample.labels.is_some_and(|labels| labels[row]),
                weight: sample.weights.map_or(1.0, |weights| weights[row]),
            });
        }
    }
    let place = |index: usize| match sample.groups {
        Some(_) => format!("method {} in group {}", index / groups, design.group_names[index % groups]),
        None => format!("method {}", index / groups),
    };
    rows.into_iter()
        .enumerate()
        .map(|(index, rows)| {
            check(&rows, statistic, || place(index))?;
            Ok(match statistic {
                Statistic::Auc => Cell::Auc(AucCell::new(rows, design.first_harmful, sample.weights.is_some())),
                Statistic::AveragePrecision => {
                    Cell::AveragePrecision(AveragePrecisionCell::new(rows, design.first_harmful))
                }
                _ => Cell::Sums(SumsCell::new(rows, statistic)),
            })
        })
        .collect()
}

fn check(rows: &[Row], statistic: Statistic, place: impl Fn() -> String) -> Result<()> {
    let weight = |harmful: Option<bool>| -> f64 {
        rows.iter().filter(|row| harmful.is_none_or(|class| row.harmful == class)).map(|row| row.weight).sum()
    };
    if weight(None) <= 0.0 {
        return invalid!("{} has no rows", place());
    }
    for (class, name) in [(true, "harmful"), (false, "harmless")] {
        if statistic.needs_labels() && weight(Some(class)) <= 0.0 {
            return invalid!("{} has no {name} rows", place());
        }
    }
    Ok(())
}

impl Cell {
    /// The metric when each unit was drawn `counts[unit]` times; NaN where a class was not drawn.
    pub fn value(&self, counts: &[u32]) -> f64 {
        match self {
            Cell::Auc(cell) => cell.value(counts),
            Cell::AveragePrecision(cell) => cell.value(counts),
            Cell::Sums(cell) => cell.value(counts),
        }
    }

    /// (unit, metric without that unit) for the units of this cell.
    pub fn jackknife(&self, units: usize) -> Vec<(u32, f64)> {
        match self {
            Cell::Auc(cell) => cell.jackknife(units),
            Cell::AveragePrecision(cell) => cell.jackknife(units),
            Cell::Sums(cell) => cell.jackknife(),
        }
    }
}

/// Rows in ascending order of score. A pass that counts the harmless rows met before each harmful one gives the pairs
/// won; where classes tie, one pass with the harmless first and one with the harmful first average to mid-ranks.
pub struct AucCell {
    first_harmful: u32,
    passes: Vec<Vec<u32>>,
    /// Weights in the order of each pass; none when all are 1, and counts are then exact integers.
    weights: Option<Vec<Vec<f64>>>,
}

impl AucCell {
    fn new(rows: Vec<Row>, first_harmful: u32, weighted: bool) -> Self {
        let sorted = |harmful_first: bool| {
            let mut rows = rows.clone();
            rows.sort_unstable_by_key(|row| (order_key(row.value), row.harmful != harmful_first, row.unit));
            rows
        };
        let mut passes = vec![sorted(false)];
        // Rows that tie across classes change places between the two passes.
        if tied_across_classes(&passes[0]) {
            passes.push(sorted(true));
        }
        let weights = |rows: &Vec<Row>| rows.iter().map(|row| row.weight).collect();
        Self {
            first_harmful,
            weights: weighted.then(|| passes.iter().map(weights).collect()),
            passes: passes.iter().map(|rows| rows.iter().map(|row| row.unit).collect()).collect(),
        }
    }

    fn value(&self, counts: &[u32]) -> f64 {
        match &self.weights {
            // One division of whole numbers: the estimate is the same float that `ranking` gives.
            None => {
                let passes = self.passes.iter().map(|units| counted_pass(units, self.first_harmful, counts));
                let (won, pairs) = passes.fold((0, 0), |sum, pass| (sum.0 + pass.0, sum.1 + pass.1));
                won as f64 / pairs as f64
            }
            Some(weights) => {
                let pass = |(units, weights): (&Vec<u32>, &Vec<f64>)| {
                    weighted_pass(units, weights, self.first_harmful, counts)
                };
                let passes = self.passes.iter().zip(weights).map(pass);
                let (won, pairs) = passes.fold((0.0, 0.0), |sum, pass| (sum.0 + pass.0, sum.1 + pass.1));
                won / pairs
            }
        }
    }

    /// Without a unit, the pairs won are fewer by those that its rows take part in: rows of a unit are of one class
    /// and form no pairs among themselves.
    fn jackknife(&self, units: usize) -> Vec<(u32, f64)> {
        let mut won = vec![0.0; units];
        let mut weight = vec![0.0; units];
        let share = 1.0 / self.passes.len() as f64;
        for (index, order) in self.passes.iter().enumerate() {
            let weight_at = |at: usize| self.weights.as_ref().map_or(1.0, |weights| weights[index][at]);
            let (mut below, mut above) = (0.0, 0.0);
            for (at, &unit) in order.iter().enumerate() {
                if unit >= self.first_harmful {
                    won[unit as usize] += share * weight_at(at) * below;
                } else {
                    below += weight_at(at);
                }
                weight[unit as usize] += share * weight_at(at);
            }
            for (at, &unit) in order.iter().enumerate().rev() {
                if unit >= self.first_harmful {
                    above += weight_at(at);
                } else {
                    won[unit as usize] += share * weight_at(at) * above;
                }
            }
        }
        let first = self.first_harmful as usize;
        let (harmless, harmful): (f64, f64) = (weight[..first].iter().sum(), weight[first..].iter().sum());
        let pairs_won: f64 = won[first..].iter().sum();
        present(&self.passes[0])
            .into_iter()
            .map(|unit| {
                let index = unit as usize;
                let pairs = if unit >= self.first_harmful {
                    (harmful - weight[index]) * harmless
                } else {
                    harmful * (harmless - weight[index])
                };
                (unit, (pairs_won - won[index]) / pairs)
            })
            .collect()
    }
}

fn tied_across_classes(rows: &[Row]) -> bool {
    rows.windows(2)
        .any(|pair| pair[0].harmful != pair[1].harmful && order_key(pair[0].value) == order_key(pair[1].value))
}

/// Pairs won and pairs, for rows drawn `counts` times.
fn counted_pass(units: &[u32], first_harmful: u32, counts: &[u32]) -> (u64, u64) {
    let (mut below, mut harmful, mut won) = (0_u64, 0_u64, 0_u64);
    // No branch on the class: it is as good as random, and mispredictions would cost more than the arithmetic.
    for &unit in units {
        let count = u64::from(counts[unit as usize]);
        let is_harmful = 0_u64.wrapping_sub(u64::from(unit >= first_harmful));
        won += (count & is_harmful) * below;
        harmful += count & is_harmful;
        below += count & !is_harmful;
    }
    (won, harmful * below)
}

/// Weight of the pairs won and of all pairs.
fn weighted_pass(units: &[u32], weights: &[f64], first_harmful: u32, counts: &[u32]) -> (f64, f64) {
    let (mut below, mut harmful, mut won) = (0.0, 0.0, 0.0);
    for (&unit, &weight) in units.iter().zip(weights) {
        let weight = f64::from(counts[unit as usize]) * weight;
        let (positive, negative) = if unit >= first_harmful { (weight, 0.0) } else { (0.0, weight) };
        won += positive * below;
        harmful += positive;
        below += negative;
    }
    (won, harmful * below)
}

/// Units that occur, ascending.
fn present(units: &[u32]) -> Vec<u32> {
    let mut present = units.to_vec();
    present.sort_unstable();
    present.dedup();
    present
}

/// Rows in descending order of score; rows with one score form a block.
pub struct AveragePrecisionCell {
    first_harmful: u32,
    units: Vec<u32>,
    weights: Vec<f64>,
    /// End of each block.
    ends: Vec<u32>,
}

impl AveragePrecisionCell {
    fn new(mut rows: Vec<Row>, first_harmful: u32) -> Self {
        rows.sort_unstable_by_key(|row| (!order_key(row.value), row.unit));
        let ends = (1..=rows.len())
            .filter(|&end| end == rows.len() || order_key(rows[end].value) != order_key(rows[end - 1].value))
            .map(|end| end as u32)
            .collect();
        Self {
            first_harmful,
            units: rows.iter().map(|row| row.unit).collect(),
            weights: rows.iter().map(|row| row.weight).collect(),
            ends,
        }
    }

    fn value(&self, counts: &[u32]) -> f64 {
        let (mut flagged, mut hits, mut sum) = (0.0, 0.0, 0.0);
        let mut start = 0;
        for &end in &self.ends {
            let mut gained = 0.0;
            for at in start..end as usize {
                let unit = self.units[at];
                let weight = f64::from(counts[unit as usize]) * self.weights[at];
                gained += if unit >= self.first_harmful { weight } else { 0.0 };
                flagged += weight;
            }
            hits += gained;
            if gained > 0.0 {
                sum += gained * hits / flagged;
            }
            start = end as usize;
        }
        sum / hits
    }

    fn jackknife(&self, units: usize) -> Vec<(u32, f64)> {
        let present = present(&self.units);
        let simple = present.len() == self.units.len() && self.weights.iter().all(|weight| *weight == 1.0);
        if simple {
            return self.jackknife_of_rows();
        }
        let mut counts = vec![1; units];
        present
            .into_iter()
            .map(|unit| {
                counts[unit as usize] = 0;
                let value = self.value(&counts);
                counts[unit as usize] = 1;
                (unit, value)
            })
            .collect()
    }

    /// For rows of weight 1, each its own unit: a left-out row lowers the counts of its block and of all below it by
    /// one, so prefix and suffix sums over blocks give every value in one pass.
    fn jackknife_of_rows(&self) -> Vec<(u32, f64)> {
        let blocks = self.block_counts();
        let ratio = |gained: f64, hits: f64, flagged: f64| if gained > 0.0 { gained * hits / flagged } else { 0.0 };
        let mut before = vec![0.0];
        for &(gained, hits, flagged) in &blocks {
            before.push(before[before.len() - 1] + ratio(gained, hits, flagged));
        }
        let (mut without_harmful, mut without_harmless) = (vec![0.0; blocks.len() + 1], vec![0.0; blocks.len() + 1]);
        for (index, &(gained, hits, flagged)) in blocks.iter().enumerate().rev() {
            without_harmful[index] = without_harmful[index + 1] + ratio(gained, hits - 1.0, flagged - 1.0);
            without_harmless[index] = without_harmless[index + 1] + ratio(gained, hits, flagged - 1.0);
        }
        let total = blocks.last().map_or(0.0, |block| block.1);
        let mut values = Vec::with_capacity(self.units.len());
        let mut block = 0;
        for (at, &unit) in self.units.iter().enumerate() {
            if at == self.ends[block] as usize {
                block += 1;
            }
            let (gained, hits, flagged) = blocks[block];
            values.push(if unit >= self.first_harmful {
                let own = ratio(gained - 1.0, hits - 1.0, flagged - 1.0);
                (unit, (before[block] + own + without_harmful[block + 1]) / (total - 1.0))
            } else {
                (unit, (before[block] + without_harmless[block]) / total)
            });
        }
        values
    }

    /// Harmful rows in each block, and harmful rows and all rows up to its end.
    fn block_counts(&self) -> Vec<(f64, f64, f64)> {
        let mut start = 0;
        let mut hits = 0.0;
        self.ends
            .iter()
            .map(|&end| {
                let units = &self.units[start..end as usize];
                let gained = units.iter().filter(|unit| **unit >= self.first_harmful).count() as f64;
                hits += gained;
                start = end as usize;
                (gained, hits, f64::from(end))
            })
            .collect()
    }
}

/// Sums that a unit adds; what they mean depends on the statistic.
type Sums = [f64; 4];

/// Sums by unit.
pub struct SumsCell {
    statistic: Statistic,
    units: Vec<u32>,
    sums: Vec<Sums>,
}

impl SumsCell {
    fn new(mut rows: Vec<Row>, statistic: Statistic) -> Self {
        rows.sort_by_key(|row| row.unit);
        let (mut units, mut sums): (Vec<u32>, Vec<Sums>) = (Vec::new(), Vec::new());
        for row in &rows {
            if units.last() != Some(&row.unit) {
                units.push(row.unit);
                sums.push([0.0; 4]);
            }
            let last = sums.len() - 1;
            sums[last] = add(sums[last], contribution(row, statistic), 1.0);
        }
        Self { statistic, units, sums }
    }

    fn value(&self, counts: &[u32]) -> f64 {
        let mut total = [0.0; 4];
        for (&unit, &sums) in self.units.iter().zip(&self.sums) {
            total = add(total, sums, f64::from(counts[unit as usize]));
        }
        metric(total, self.statistic)
    }

    fn jackknife(&self) -> Vec<(u32, f64)> {
        let total = self.sums.iter().fold([0.0; 4], |total, sums| add(total, *sums, 1.0));
        let without = |sums: &Sums| metric(add(total, *sums, -1.0), self.statistic);
        self.units.iter().zip(&self.sums).map(|(unit, sums)| (*unit, without(sums))).collect()
    }
}

fn add(mut total: Sums, sums: Sums, times: f64) -> Sums {
    for index in 0..4 {
        total[index] += times * sums[index];
    }
    total
}

fn contribution(row: &Row, statistic: Statistic) -> Sums {
    let (value, weight) = (row.weight * row.value, row.weight);
    match (statistic, row.harmful) {
        // Hits, harmful rows, false alarms, harmless rows; for selectivity the first and third are sums of values.
        (Statistic::F1 | Statistic::BalancedAccuracy | Statistic::Selectivity, true) => [value, weight, 0.0, 0.0],
        (Statistic::F1 | Statistic::BalancedAccuracy | Statistic::Selectivity, false) => [0.0, 0.0, value, weight],
        _ => [value, weight, 0.0, 0.0],
    }
}

fn metric([hits, harmful, alarms, harmless]: Sums, statistic: Statistic) -> f64 {
    match statistic {
        Statistic::F1 => 2.0 * hits / (hits + alarms + harmful),
        Statistic::BalancedAccuracy => (hits / harmful + 1.0 - alarms / harmless) / 2.0,
        Statistic::Selectivity => hits / harmful - alarms / harmless,
        _ => hits / harmful,
    }
}

//! One method in one group: its metric as a function of how often each unit was drawn.

use crate::error::{Result, invalid};
use crate::numeric::random::{Counts, SIDE};
use crate::numeric::threads::Stop;
use crate::ranking::order_key;

use super::design::Design;
use super::sample::{Sample, Statistic};

/// A number for each of the resamples that are counted side by side.
pub type Side = [f64; SIDE];

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
                Statistic::Auc => Cell::Auc(AucCell::new(rows, sample.weights.is_some())),
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
    #[inline(always)]
    pub fn values(&self, counts: &[Counts]) -> Side {
        match self {
            Cell::Auc(cell) => cell.values(counts),
            Cell::AveragePrecision(cell) => cell.values(counts),
            Cell::Sums(cell) => cell.values(counts),
        }
    }

    /// (unit, metric without that unit) for the units of this cell.
    pub fn jackknife(&self, units: usize, stop: &Stop) -> Vec<(u32, f64)> {
        match self {
            Cell::Auc(cell) => cell.jackknife(units),
            Cell::AveragePrecision(cell) => cell.jackknife(units, stop),
            Cell::Sums(cell) => cell.jackknife(),
        }
    }

    /// (unit, what a copy of it adds to the metric, to first order) when each unit was drawn `drawn[unit]` times. Only
    /// for statistics with `has_standard_error`.
    pub fn influences(&self, drawn: &[f64]) -> Vec<(u32, f64)> {
        match self {
            Cell::Auc(cell) => cell.influences(drawn),
            Cell::AveragePrecision(_) => Vec::new(),
            Cell::Sums(cell) => cell.influences(drawn),
        }
    }
}

/// Harmless rows in ascending order of score and, for each harmful row, how many of them lie below it and how many up
/// to it: with running sums of the harmless weight, the pairs that a harmful row wins are one addition (ties half).
pub struct AucCell {
    harmless: Vec<u32>,
    harmful: Vec<HarmfulRow>,
    /// Weights of the harmless and of the harmful rows; none when all are 1, and pairs are then counted exactly.
    weights: Option<[Vec<f64>; 2]>,
}

struct HarmfulRow {
    unit: u32,
    below: u32,
    up_to: u32,
}

impl AucCell {
    fn new(mut rows: Vec<Row>, weighted: bool) -> Self {
        rows.sort_unstable_by_key(|row| (order_key(row.value), row.unit));
        let (harmful, harmless): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.harmful);
        let keys: Vec<u64> = harmless.iter().map(|row| order_key(row.value)).collect();
        let (mut below, mut up_to) = (0, 0);
        let mut place = |row: &Row| {
            let key = order_key(row.value);
            below += keys[below..].iter().take_while(|other| **other < key).count();
            up_to += keys[up_to..].iter().take_while(|other| **other <= key).count();
            HarmfulRow { unit: row.unit, below: below as u32, up_to: up_to as u32 }
        };
        let weights = |rows: &[Row]| rows.iter().map(|row| row.weight).collect();
        Self {
            harmless: harmless.iter().map(|row| row.unit).collect(),
            harmful: harmful.iter().map(&mut place).collect(),
            weights: weighted.then(|| [weights(&harmless), weights(&harmful)]),
        }
    }

    /// Running sums are whole numbers where all weights are 1, and then exact: the estimate is the same float that
    /// `ranking` gives.
    #[inline(always)]
    fn values(&self, counts: &[Counts]) -> Side {
        let (harmless, harmful) = match &self.weights {
            Some([harmless, harmful]) => (harmless.as_slice(), harmful.as_slice()),
            None => (&[][..], &[][..]),
        };
        let mut sums = vec![[0.0; SIDE]; self.harmless.len() + 1];
        let mut total = [0.0; SIDE];
        for (row, &unit) in self.harmless.iter().enumerate() {
            let drawn = weighted(&counts[unit as usize], harmless.get(row));
            for i in 0..SIDE {
                total[i] += drawn[i];
            }
            sums[row + 1] = total;
        }
        let (mut won_twice, mut total_harmful) = ([0.0; SIDE], [0.0; SIDE]);
        for (index, row) in self.harmful.iter().enumerate() {
            let drawn = weighted(&counts[row.unit as usize], harmful.get(index));
            let (below, up_to) = (&sums[row.below as usize], &sums[row.up_to as usize]);
            for i in 0..SIDE {
                won_twice[i] += drawn[i] * (below[i] + up_to[i]);
                total_harmful[i] += drawn[i];
            }
        }
        std::array::from_fn(|i| won_twice[i] / (2.0 * total_harmful[i] * total[i]))
    }

    /// Pairs that a copy of each unit wins or loses when each unit was drawn `drawn[unit]` times.
    fn pairs(&self, drawn: &[f64]) -> Pairs {
        let weight_of = |class: usize, row: usize| self.weights.as_ref().map_or(1.0, |weights| weights[class][row]);
        let (mut won, mut weight) = (vec![0.0; drawn.len()], vec![0.0; drawn.len()]);
        let mut sums = vec![0.0];
        for (row, &unit) in self.harmless.iter().enumerate() {
            let own = weight_of(0, row);
            weight[unit as usize] += own;
            sums.push(sums[row] + drawn[unit as usize] * own);
        }
        let (mut harmful, mut total) = (0.0, 0.0);
        // Half the weight of a harmful row beats the harmless rows below it, half those up to it.
        let mut halves = vec![0.0; sums.len()];
        for (index, row) in self.harmful.iter().enumerate() {
            let own = weight_of(1, index);
            let times = drawn[row.unit as usize];
            let pairs = own * (sums[row.below as usize] + sums[row.up_to as usize]) / 2.0;
            weight[row.unit as usize] += own;
            won[row.unit as usize] += pairs;
            halves[row.below as usize] += times * own / 2.0;
            halves[row.up_to as usize] += times * own / 2.0;
            harmful += times * own;
            total += times * pairs;
        }
        let mut above = 0.0;
        for (row, &unit) in self.harmless.iter().enumerate().rev() {
            above += halves[row + 1];
            won[unit as usize] += weight_of(0, row) * above;
        }
        Pairs { won, weight, harmful, harmless: sums[self.harmless.len()], total }
    }

    /// Units with rows of the harmless and of the harmful class.
    fn present(&self) -> [Vec<u32>; 2] {
        let harmful: Vec<u32> = self.harmful.iter().map(|row| row.unit).collect();
        [present(&self.harmless), present(&harmful)]
    }

    /// Without a unit, the pairs won are fewer by those that its rows take part in: rows of a unit are of one class
    /// and form no pairs among themselves.
    fn jackknife(&self, units: usize) -> Vec<(u32, f64)> {
        let pairs = self.pairs(&vec![1.0; units]);
        let without = |unit: u32, harmful: f64, harmless: f64| {
            (unit, (pairs.total - pairs.won[unit as usize]) / (harmful * harmless))
        };
        let left = |unit: &u32, total: f64| total - pairs.weight[*unit as usize];
        let [harmless, harmful] = self.present();
        let first = harmless.into_iter().map(|unit| without(unit, pairs.harmful, left(&unit, pairs.harmless)));
        let second = harmful.into_iter().map(|unit| without(unit, left(&unit, pairs.harmful), pairs.harmless));
        first.chain(second).collect()
    }

    /// A unit's placement values minus the AUC, over the weight of its class.
    fn influences(&self, drawn: &[f64]) -> Vec<(u32, f64)> {
        let pairs = self.pairs(drawn);
        let area = pairs.total / (pairs.harmful * pairs.harmless);
        let influence = |unit: u32, own: f64, other: f64| {
            (unit, (pairs.won[unit as usize] / other - area * pairs.weight[unit as usize]) / own)
        };
        let [harmless, harmful] = self.present();
        let first = harmless.into_iter().map(|unit| influence(unit, pairs.harmless, pairs.harmful));
        let second = harmful.into_iter().map(|unit| influence(unit, pairs.harmful, pairs.harmless));
        first.chain(second).collect()
    }
}

/// Weights of pairs of a harmful and a harmless row; those that the harmful row wins count, ties half.
struct Pairs {
    /// Pairs won in which a copy of each unit takes part.
    won: Vec<f64>,
    /// Weight of the rows of each unit.
    weight: Vec<f64>,
    /// Weight of the harmful rows.
    harmful: f64,
    /// Weight of the harmless rows.
    harmless: f64,
    /// All pairs won.
    total: f64,
}

/// Counts × weight, which is 1 where none is given.
#[inline(always)]
fn weighted(counts: &Counts, weight: Option<&f64>) -> Side {
    let counts = counts.map(f64::from);
    weight.map_or(counts, |weight| counts.map(|count| count * weight))
}

#[inline(always)]
fn add_times(total: &mut Side, drawn: &Side, factor: f64) {
    for i in 0..SIDE {
        total[i] += drawn[i] * factor;
    }
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

    #[inline(always)]
    fn values(&self, counts: &[Counts]) -> Side {
        let (mut flagged, mut hits, mut sum) = ([0.0; SIDE], [0.0; SIDE], [0.0; SIDE]);
        let mut start = 0;
        for &end in &self.ends {
            let mut gained = [0.0; SIDE];
            for at in start..end as usize {
                let unit = self.units[at];
                let drawn = weighted(&counts[unit as usize], Some(&self.weights[at]));
                let harmful = f64::from(u8::from(unit >= self.first_harmful));
                for i in 0..SIDE {
                    gained[i] += harmful * drawn[i];
                    flagged[i] += drawn[i];
                }
            }
            for i in 0..SIDE {
                hits[i] += gained[i];
                let gain = gained[i] * hits[i] / flagged[i];
                sum[i] += if gained[i] > 0.0 { gain } else { 0.0 };
            }
            start = end as usize;
        }
        std::array::from_fn(|i| sum[i] / hits[i])
    }

    fn jackknife(&self, units: usize, stop: &Stop) -> Vec<(u32, f64)> {
        let present = present(&self.units);
        let simple = present.len() == self.units.len() && self.weights.iter().all(|weight| *weight == 1.0);
        if simple {
            return self.jackknife_of_rows();
        }
        let mut counts = vec![[1; SIDE]; units];
        let mut values = Vec::with_capacity(present.len());
        for some in present.chunks(SIDE).take_while(|_| !stop.now()) {
            some.iter().enumerate().for_each(|(place, unit)| counts[*unit as usize][place] = 0);
            values.extend(some.iter().copied().zip(self.values(&counts)));
            some.iter().for_each(|unit| counts[*unit as usize] = [1; SIDE]);
        }
        values
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

    #[inline(always)]
    fn values(&self, counts: &[Counts]) -> Side {
        let mut totals = [[0.0; SIDE]; 4];
        for (&unit, sums) in self.units.iter().zip(&self.sums) {
            let drawn = weighted(&counts[unit as usize], None);
            for part in 0..4 {
                add_times(&mut totals[part], &drawn, sums[part]);
            }
        }
        std::array::from_fn(|i| metric(totals.map(|total| total[i]), self.statistic))
    }

    fn jackknife(&self) -> Vec<(u32, f64)> {
        let total = self.sums.iter().fold([0.0; 4], |total, sums| add(total, *sums, 1.0));
        let without = |sums: &Sums| metric(add(total, *sums, -1.0), self.statistic);
        self.units.iter().zip(&self.sums).map(|(unit, sums)| (*unit, without(sums))).collect()
    }

    /// What a unit's rows add to the means of their classes.
    fn influences(&self, drawn: &[f64]) -> Vec<(u32, f64)> {
        let mut total = [0.0; 4];
        for (&unit, &sums) in self.units.iter().zip(&self.sums) {
            total = add(total, sums, drawn[unit as usize]);
        }
        let part = |value: f64, weight: f64, sum: f64, all: f64| {
            if weight > 0.0 { (value - sum / all * weight) / all } else { 0.0 }
        };
        let scale = if self.statistic == Statistic::BalancedAccuracy { 0.5 } else { 1.0 };
        let influence = |sums: &Sums| {
            let harmful = part(sums[0], sums[1], total[0], total[1]);
            scale * (harmful - part(sums[2], sums[3], total[2], total[3]))
        };
        self.units.iter().zip(&self.sums).map(|(unit, sums)| (*unit, influence(sums))).collect()
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

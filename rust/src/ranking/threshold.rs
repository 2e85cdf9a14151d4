//! The threshold that serves best: one sweep over all candidates, for one language or a macro objective over many.

use crate::error::{Result, invalid};
use crate::numeric::checks;
use crate::numeric::threads::{self, Threads};
use crate::ranking::{END, ascending};

/// What a threshold should do well; each is the mean over groups of its value in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// F1 of the harmful class.
    MacroF1,
    /// F1 with both classes weighted to one half.
    BalancedF1,
    /// Mean of true positive and true negative rate.
    BalancedAccuracy,
}

/// The chosen threshold: a row is flagged when score > threshold, in float64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// A midpoint between neighbouring distinct scores, or the next float beyond the lowest or highest of them.
    pub threshold: f64,
    /// The objective at the threshold.
    pub value: f64,
    /// Whether it beats flagging everything.
    pub informative: bool,
}

/// Values nearer than this are equal: rounding must not decide which of two equal candidates comes first.
const EQUAL: f64 = 1e-12;

/// 2⁵².
const SHIFT: f64 = 4_503_599_627_370_496.0;

/// How much a row counts for. Sums are in whole numbers, so that taking rows out one by one leaves no rounding behind.
#[derive(Clone, Copy, Default)]
struct Class {
    total: i64,
    /// Weight of 1 in `total`, a power of two.
    unit: f64,
}

/// One group's rows that are flagged, beside all it has.
#[derive(Clone, Copy, Default)]
struct Group {
    /// Harmless, harmful.
    classes: [Class; 2],
    /// Flagged harmless and harmful rows: false alarms and hits.
    flagged: [i64; 2],
}

impl Group {
    #[inline]
    fn value(&self, objective: Objective) -> f64 {
        let [alarms, hits] = [0, 1].map(|class| self.flagged[class] as f64 * self.classes[class].unit);
        let [negatives, positives] = self.classes.map(|class| class.total as f64 * class.unit);
        match objective {
            // 2·tp / (2·tp + fp + fn), with tp + fn = positives.
            Objective::MacroF1 => 2.0 * hits / (hits + alarms + positives),
            Objective::BalancedF1 => 2.0 * (hits / positives) / (hits / positives + alarms / negatives + 1.0),
            Objective::BalancedAccuracy => (hits / positives + 1.0 - alarms / negatives) / 2.0,
        }
    }
}

/// What all methods share: each row's group and class, its weight in units of its class, and the groups' totals.
struct Rows<'a> {
    labels: &'a [bool],
    members: Vec<u32>,
    /// None when every row counts 1.
    weights: Option<Vec<i64>>,
    groups: Vec<Group>,
}

/// Best threshold for each of the methods in `scores` [methods, rows]: candidates are the next float below the lowest
/// score, the midpoints between neighbouring distinct scores and the next float above the highest; the first maximum in
/// that order wins.
///
/// `groups` [rows] (languages) makes the objective a mean over groups; every group needs both classes. `weights` [rows]
/// make counts sums of weights; a row of weight 0 is as if it were absent. The threshold is uninformative when no
/// candidate beats the lowest, which flags every one of these rows: so it is for constant scores.
pub fn sweep<'a>(
    scores: &[f64],
    labels: &[bool],
    groups: Option<&[i64]>,
    weights: Option<&[f64]>,
    objective: Objective,
    threads: impl Into<Threads<'a>>,
) -> Result<Vec<Threshold>> {
    checks::methods(scores, labels)?;
    let rows = Rows::new(labels, groups, weights)?;
    threads::map(threads.into(), scores.len() / labels.len(), |method, _| {
        let scores = &scores[method * labels.len()..(method + 1) * labels.len()];
        match objective {
            Objective::MacroF1 => rows.best(scores, |group| group.value(Objective::MacroF1)),
            Objective::BalancedF1 => rows.best(scores, |group| group.value(Objective::BalancedF1)),
            Objective::BalancedAccuracy => rows.best(scores, |group| group.value(Objective::BalancedAccuracy)),
        }
    })
}

impl<'a> Rows<'a> {
    fn new(labels: &'a [bool], groups: Option<&[i64]>, weights: Option<&[f64]>) -> Result<Self> {
        let (members, names) = group_indices(groups, labels.len())?;
        let mut counts = vec![[0_i64; 2]; names.len()];
        members.iter().zip(labels).for_each(|(group, label)| counts[*group as usize][usize::from(*label)] += 1);
        if let Some(index) = counts.iter().position(|classes| classes.contains(&0)) {
            let (name, [negatives, positives]) = (names[index], counts[index]);
            return invalid!("group {name} holds a single class: {positives} harmful, {negatives} harmless");
        }
        let mut rows = Self { labels, members, weights: None, groups: vec![Group::default(); names.len()] };
        match weights {
            None => rows.groups.iter_mut().zip(&counts).for_each(|(group, counts)| {
                group.classes = counts.map(|total| Class { total, unit: 1.0 });
            }),
            Some(weights) => rows.weigh(weights, &names)?,
        }
        rows.groups.iter_mut().for_each(|group| group.flagged = group.classes.map(|class| class.total));
        Ok(rows)
    }

    /// Weights as whole numbers of 2⁻⁶⁰ of the class's total or less. Exact for whole numbers.
    fn weigh(&mut self, weights: &[f64], names: &[i64]) -> Result<()> {
        checks::length("weights", weights.len(), self.labels.len(), "labels")?;
        checks::weights(weights)?;
        let places =
            || self.members.iter().zip(self.labels).map(|(group, label)| (*group as usize, usize::from(*label)));
        let mut totals = vec![[0.0; 2]; names.len()];
        places().zip(weights).for_each(|((group, class), weight)| totals[group][class] += weight);
        for (group, totals) in self.groups.iter_mut().zip(&totals) {
            group.classes =
                totals.map(|total| Class { total: 0, unit: libm::ldexp(1.0, (libm::ilogb(total) - 60).max(-1000)) });
        }
        let whole: Vec<i64> = places()
            .zip(weights)
            .map(|((group, class), weight)| (weight / self.groups[group].classes[class].unit).round() as i64)
            .collect();
        let places: Vec<(usize, usize)> = places().collect();
        places
            .iter()
            .zip(&whole)
            .for_each(|((group, class), weight)| self.groups[*group].classes[*class].total += weight);
        for (index, group) in self.groups.iter().enumerate() {
            if let Some(class) = group.classes.iter().position(|class| class.total == 0 || !class.unit.is_finite()) {
                let rows = ["harmless", "harmful"][class];
                let total = totals[index][class];
                return invalid!(
                    "the weights of group {}'s {rows} rows sum to {total}, expected a number > 0",
                    names[index]
                );
            }
        }
        self.weights = Some(whole);
        Ok(())
    }

    fn best(&self, scores: &[f64], value: impl Fn(&Group) -> f64) -> Threshold {
        let order = match &self.weights {
            None => ascending(scores, |_| true),
            Some(weights) => ascending(scores, |row| weights[row] > 0),
        };
        let mut groups = self.groups.clone();
        // The groups' values as whole numbers, so that their sum doesn't depend on the order in which they change.
        let one = libm::ldexp(1.0, 51.min(62 - (groups.len().ilog2() + 1) as i32));
        // Adding 2⁵² rounds to a whole number and leaves it in the low bits; the rest cancels in differences.
        let whole = |group: &Group| (value(group) * one + SHIFT).to_bits() as i64;
        let mut values: Vec<i64> = groups.iter().map(whole).collect();
        let mut sum: i64 = values.iter().map(|value| value - SHIFT.to_bits() as i64).sum();
        let tolerance = (EQUAL * groups.len() as f64 * one) as i64;
        let (mut best, mut end) = (sum, None);
        for (index, &entry) in order.iter().enumerate() {
            let row = (entry & !END) as usize;
            let at = self.members[row] as usize;
            let group = &mut groups[at];
            group.flagged[usize::from(self.labels[row])] -= self.weights.as_ref().map_or(1, |weights| weights[row]);
            let new = whole(group);
            sum += new - values[at];
            values[at] = new;
            // Moves instead of a branch that would be mispredicted at every other row on the way to the maximum.
            let better = (entry & END != 0) & (sum > best + tolerance);
            best = if better { sum } else { best };
            end = if better { Some(index) } else { end };
        }
        // Just outside the scores seen, not at ∓∞: of rows not seen, one that lies lower still is not flagged.
        let threshold = match end {
            None => scores[(order[0] & !END) as usize].next_down(),
            Some(end) => {
                let low = scores[(order[end] & !END) as usize];
                order.get(end + 1).map_or(low.next_up(), |high| midpoint(low, scores[(high & !END) as usize]))
            }
        };
        Threshold { threshold, value: best as f64 / one / groups.len() as f64, informative: end.is_some() }
    }
}

/// A float t with low ≤ t < high, halfway where one exists: `low > t` is false and `high > t` is true.
pub fn midpoint(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    // Between neighbouring floats the middle may round up to `high`, which would then not be flagged.
    if low <= middle && middle < high { middle } else { low }
}

/// Index 0, 1, … of each row's group in ascending order of group, and the groups' names.
pub fn group_indices(groups: Option<&[i64]>, rows: usize) -> Result<(Vec<u32>, Vec<i64>)> {
    let Some(groups) = groups else { return Ok((vec![0; rows], vec![0])) };
    checks::length("groups", groups.len(), rows, "labels")?;
    let least = groups.iter().copied().fold(i64::MAX, i64::min);
    let most = groups.iter().copied().fold(i64::MIN, i64::max);
    match most.checked_sub(least).and_then(|width| usize::try_from(width).ok()) {
        Some(width) if width <= rows => Ok(indices_by_table(groups, least, width)),
        _ => {
            let mut names = groups.to_vec();
            names.sort_unstable();
            names.dedup();
            let index = |group: &i64| names.binary_search(group).expect("every group is named") as u32;
            Ok((groups.iter().map(index).collect(), names))
        }
    }
}

/// The same where names lie close together, as numbers of languages do.
fn indices_by_table(groups: &[i64], least: i64, width: usize) -> (Vec<u32>, Vec<i64>) {
    let place = |group: &i64| (group - least) as usize;
    let mut table = vec![u32::MAX; width + 1];
    groups.iter().for_each(|group| table[place(group)] = 0);
    let mut names = Vec::new();
    for (name, index) in (least..).zip(&mut table).filter(|(_, index)| **index == 0) {
        *index = names.len() as u32;
        names.push(name);
    }
    (groups.iter().map(|group| table[place(group)]).collect(), names)
}

//! The threshold that serves best: one sweep over all candidates, for one language or a macro objective over many.

use crate::checks;
use crate::error::{Result, invalid};
use crate::ranking::{order_key, score_of};

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
    /// A midpoint between neighbouring distinct scores, or ∓∞.
    pub threshold: f64,
    /// The objective at the threshold.
    pub value: f64,
    /// Whether it beats flagging everything.
    pub informative: bool,
}

/// Values nearer than this are equal: rounding must not decide which of two equal candidates comes first.
const EQUAL: f64 = 1e-12;

#[derive(Clone, Copy, Default)]
struct Group {
    positives: u64,
    negatives: u64,
    hits: u64,
    alarms: u64,
}

impl Group {
    fn value(&self, objective: Objective) -> f64 {
        let (hits, alarms) = (self.hits as f64, self.alarms as f64);
        let (positives, negatives) = (self.positives as f64, self.negatives as f64);
        match objective {
            // 2·tp / (2·tp + fp + fn), with tp + fn = positives.
            Objective::MacroF1 => 2.0 * hits / (hits + alarms + positives),
            Objective::BalancedF1 => 2.0 * (hits / positives) / (hits / positives + alarms / negatives + 1.0),
            Objective::BalancedAccuracy => (hits / positives + 1.0 - alarms / negatives) / 2.0,
        }
    }
}

/// Sum of values that change one at a time: a complete binary tree, so the sum depends on the values alone and not
/// on the order of updates, and an update takes log₂ steps.
struct SumTree {
    leaves: usize,
    nodes: Vec<f64>,
}

impl SumTree {
    fn new(values: &[f64]) -> Self {
        let leaves = values.len().next_power_of_two();
        let mut nodes = vec![0.0; 2 * leaves];
        nodes[leaves..leaves + values.len()].copy_from_slice(values);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1];
        }
        Self { leaves, nodes }
    }

    fn set(&mut self, index: usize, value: f64) {
        let mut node = self.leaves + index;
        self.nodes[node] = value;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
        }
    }

    fn sum(&self) -> f64 {
        self.nodes[1]
    }
}

/// Best threshold for `scores` [rows]: candidates are -∞, the midpoints between neighbouring distinct scores and +∞;
/// the first maximum in that order wins.
///
/// `groups` [rows] (languages) makes the objective a mean over groups; every group needs both classes. The threshold
/// is uninformative when no candidate beats -∞, which flags everything: so it is for constant scores.
pub fn sweep(scores: &[f64], labels: &[bool], groups: Option<&[i64]>, objective: Objective) -> Result<Threshold> {
    checks::both_classes(labels)?;
    checks::length("scores", scores.len(), labels.len(), "labels")?;
    checks::finite("scores", scores)?;
    let (members, names) = group_indices(groups, labels.len())?;
    let mut states = vec![Group::default(); names.len()];
    for (&member, &label) in members.iter().zip(labels) {
        let state = &mut states[member as usize];
        if label {
            state.positives += 1;
        } else {
            state.negatives += 1;
        }
        (state.hits, state.alarms) = (state.positives, state.negatives);
    }
    if let Some(index) = states.iter().position(|state| state.positives == 0 || state.negatives == 0) {
        let (name, state) = (names[index], states[index]);
        return invalid!(
            "group {name} holds a single class: {} harmful, {} harmless",
            state.positives,
            state.negatives
        );
    }
    Ok(best(scores, labels, &members, states, objective))
}

fn best(scores: &[f64], labels: &[bool], members: &[u32], mut states: Vec<Group>, objective: Objective) -> Threshold {
    let mut rows: Vec<(u64, u32)> = scores.iter().zip(0u32..).map(|(score, row)| (order_key(*score), row)).collect();
    rows.sort_unstable();
    let values: Vec<f64> = states.iter().map(|state| state.value(objective)).collect();
    let mut tree = SumTree::new(&values);
    let everything = tree.sum();
    let (mut best, mut threshold) = (everything, f64::NEG_INFINITY);
    let tolerance = EQUAL * states.len() as f64;
    for (index, &(key, row)) in rows.iter().enumerate() {
        let group = members[row as usize] as usize;
        let state = &mut states[group];
        if labels[row as usize] {
            state.hits -= 1;
        } else {
            state.alarms -= 1;
        }
        tree.set(group, state.value(objective));
        let next = rows.get(index + 1).map(|(key, _)| *key);
        if next != Some(key) && tree.sum() > best + tolerance {
            best = tree.sum();
            threshold = next.map_or(f64::INFINITY, |next| midpoint(score_of(key), score_of(next)));
        }
    }
    let groups = states.len() as f64;
    Threshold { threshold, value: best / groups, informative: best > everything }
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
    let mut names = groups.to_vec();
    names.sort_unstable();
    names.dedup();
    let index = |group: &i64| names.binary_search(group).expect("every group is named") as u32;
    Ok((groups.iter().map(index).collect(), names))
}

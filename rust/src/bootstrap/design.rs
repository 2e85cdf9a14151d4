//! What is drawn in a resample, and how the metrics of methods and groups become outputs.

use std::ops::Range;

use crate::error::{Result, invalid};
use crate::numeric::random::{Counts, Stream};
use crate::ranking::threshold::group_indices;

use super::sample::{Average, Sample};

/// The units of a bootstrap: numbered stratum by stratum, harmless strata first.
pub struct Design {
    /// Unit of each row.
    pub unit_of_row: Vec<u32>,
    /// Units of each stratum.
    pub strata: Vec<Range<usize>>,
    /// First unit of the harmful class.
    pub first_harmful: u32,
    /// Index of each row's group.
    pub group_of_row: Vec<u32>,
    /// The groups, ascending.
    pub group_names: Vec<i64>,
}

/// Class and group of a stratum, then cluster: the order of units, which doesn't depend on the order of rows.
type Key = (bool, u32, i64);

impl Design {
    /// Strata are the classes; without clusters also the groups, whose rows are then drawn apart.
    pub fn new(sample: &Sample) -> Result<Self> {
        let (group_of_row, group_names) = group_indices(sample.groups, sample.rows)?;
        let key = |row: usize| -> Key {
            let harmful = sample.labels.is_some_and(|labels| labels[row]);
            match sample.clusters {
                Some(clusters) => (harmful, 0, clusters[row]),
                None => (harmful, group_of_row[row], row as i64),
            }
        };
        let mut keys: Vec<(Key, usize)> = (0..sample.rows).map(|row| (key(row), row)).collect();
        keys.sort_unstable();
        let mut units: Vec<Key> = Vec::new();
        let mut unit_of_row = vec![0; sample.rows];
        for (key, row) in keys {
            if units.last() != Some(&key) {
                units.push(key);
            }
            unit_of_row[row] = (units.len() - 1) as u32;
        }
        if sample.clusters.is_some() {
            one_class_per_cluster(&units)?;
        }
        let mut strata: Vec<Range<usize>> = Vec::new();
        for (unit, key) in units.iter().enumerate() {
            match strata.last_mut() {
                Some(stratum) if (units[stratum.start].0, units[stratum.start].1) == (key.0, key.1) => {
                    stratum.end = unit + 1;
                }
                _ => strata.push(unit..unit + 1),
            }
        }
        let first_harmful = units.partition_point(|key| !key.0) as u32;
        Ok(Self { unit_of_row, strata, first_harmful, group_of_row, group_names })
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.strata.last().map_or(0, |stratum| stratum.end)
    }

    /// Adds to column `place` how often each unit is drawn in the resample of a stream.
    #[inline(always)]
    pub fn draw(&self, stream: &mut Stream, counts: &mut [Counts], place: usize) {
        for stratum in &self.strata {
            stream.resample(&mut counts[stratum.clone()], place);
        }
    }
}

fn one_class_per_cluster(units: &[Key]) -> Result<()> {
    let mut clusters: Vec<i64> = units.iter().map(|key| key.2).collect();
    clusters.sort_unstable();
    match clusters.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => invalid!("cluster {} holds harmful and harmless rows", pair[0]),
    }
}

/// Outputs as linear combinations of cells, a cell being a method in a group (method-major).
pub struct Combination {
    /// Methods of the output.
    pub methods: usize,
    /// Groups of the output.
    pub groups: usize,
    terms: Vec<Vec<(usize, f64)>>,
}

impl Combination {
    /// Averages over groups, differences to the reference, averages over the (other) methods.
    pub fn new(methods: usize, groups: usize, average: Average, reference: Option<usize>) -> Self {
        let averaged = |average: bool, members: Vec<usize>| -> Vec<Vec<usize>> {
            if average { vec![members] } else { members.into_iter().map(|member| vec![member]).collect() }
        };
        let left = (0..methods).filter(|method| !average.methods || Some(*method) != reference).collect();
        let (rows, columns) = (averaged(average.methods, left), averaged(average.groups, (0..groups).collect()));
        let mut terms = Vec::with_capacity(rows.len() * columns.len());
        for row in &rows {
            for column in &columns {
                let share = 1.0 / (row.len() * column.len()) as f64;
                let mut sum: Vec<(usize, f64)> =
                    row.iter().flat_map(|m| column.iter().map(move |g| (m * groups + g, share))).collect();
                if let Some(reference) = reference {
                    let share = -1.0 / column.len() as f64;
                    sum.extend(column.iter().map(|g| (reference * groups + g, share)));
                }
                terms.push(sum);
            }
        }
        Self { methods: rows.len(), groups: columns.len(), terms }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.terms.len()
    }

    /// Cells of an output, with their factors.
    pub fn terms(&self, output: usize) -> &[(usize, f64)] {
        &self.terms[output]
    }

    /// Outputs from the values of all cells.
    pub fn apply(&self, cells: &[f64], outputs: &mut [f64]) {
        for (terms, output) in self.terms.iter().zip(outputs) {
            *output = terms.iter().map(|(cell, factor)| cells[*cell] * factor).sum();
        }
    }
}

//! What the bootstrap is given and what it returns.

/// Metric whose interval is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Area under the ROC curve of scores.
    Auc,
    /// Average precision of scores.
    AveragePrecision,
    /// F1 of decisions 0 or 1.
    F1,
    /// Balanced accuracy of decisions 0 or 1.
    BalancedAccuracy,
    /// Mean of the values.
    Rate,
    /// Mean of the values of harmful rows minus that of harmless rows.
    Selectivity,
}

impl Statistic {
    pub(super) fn needs_labels(self) -> bool {
        self != Self::Rate
    }

    pub(super) fn has_standard_error(self) -> bool {
        matches!(self, Self::Auc | Self::BalancedAccuracy | Self::Rate | Self::Selectivity)
    }

    pub(super) fn takes_decisions(self) -> bool {
        matches!(self, Self::F1 | Self::BalancedAccuracy)
    }
}

/// What the metric is averaged over, within each resample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Average {
    /// One value for all groups: their unweighted mean.
    pub groups: bool,
    /// One value for all methods: their mean.
    pub methods: bool,
}

/// Kind of interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Quantiles of the replicates.
    Percentile,
    /// Bias-corrected and accelerated (Efron 1987).
    Bca,
    /// Bootstrap-t, for statistics whose standard error has a closed form (Efron & Tibshirani 1993, chapter 12).
    Studentized,
}

/// Rows and how they belong together.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// [methods, rows]; NaN where a method lacks a row.
    pub values: &'a [f64],
    /// Number of rows.
    pub rows: usize,
    /// Harmful rows; without labels there is a single class.
    pub labels: Option<&'a [bool]>,
    /// Group (language) of each row; without groups there is one.
    pub groups: Option<&'a [i64]>,
    /// Cluster (prompt) of each row; without clusters each row is its own, and is drawn within its group.
    pub clusters: Option<&'a [i64]>,
    /// Weight of each row, 1 by default.
    pub weights: Option<&'a [f64]>,
}

/// What to compute.
#[derive(Clone, Copy)]
pub struct Options {
    /// The metric.
    pub statistic: Statistic,
    /// What it is averaged over.
    pub average: Average,
    /// Method that is subtracted from each method.
    pub reference: Option<usize>,
    /// Number of resamples.
    pub resamples: usize,
    /// Two-sided confidence level.
    pub confidence: f64,
    /// Kind of interval.
    pub kind: Kind,
    /// Seed of the resamples.
    pub seed: u64,
}

/// Estimates with their intervals, [methods, groups] each.
pub struct Intervals {
    /// Number of methods, 1 where they are averaged.
    pub methods: usize,
    /// Number of groups, 1 where they are averaged.
    pub groups: usize,
    /// The metric on the sample itself.
    pub estimate: Vec<f64>,
    /// Lower ends.
    pub low: Vec<f64>,
    /// Upper ends.
    pub high: Vec<f64>,
    /// The metric on each resample, [resamples, methods, groups]; NaN where a resample lacks a class in a group.
    pub replicates: Vec<f64>,
}

//! Ranking, thresholds and intervals against their definitions.

use polygate_kernels::bootstrap::{Average, Kind, Options, Sample, Statistic, bootstrap};
use polygate_kernels::numeric::normal;
use polygate_kernels::ranking::threshold::{Objective, midpoint, sweep};
use polygate_kernels::ranking::{END, Metric, ascending, order_key, rank};
use proptest::prelude::*;

fn tied_scores(rows: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop::sample::select(vec![-1.0, -0.0, 0.0, 0.5, 1e300]), rows)
}

fn labels(rows: usize) -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), rows).prop_map(|mut labels| {
        (labels[0], labels[1]) = (true, false);
        labels
    })
}

fn brute_auc(scores: &[f64], labels: &[bool]) -> f64 {
    let (mut won, mut pairs) = (0.0, 0.0);
    for i in (0..labels.len()).filter(|&i| labels[i]) {
        for j in (0..labels.len()).filter(|&j| !labels[j]) {
            pairs += 1.0;
            won += f64::from(u8::from(scores[i] > scores[j])) + 0.5 * f64::from(u8::from(scores[i] == scores[j]));
        }
    }
    won / pairs
}

fn f1(scores: &[f64], labels: &[bool], threshold: f64) -> f64 {
    let flagged = |row: usize| scores[row] > threshold;
    let hits = (0..labels.len()).filter(|&row| flagged(row) && labels[row]).count() as f64;
    let total = (0..labels.len()).map(|row| usize::from(flagged(row)) + usize::from(labels[row])).sum::<usize>();
    2.0 * hits / total as f64
}

/// `ascending` is what a stable comparison sort gives.
fn ordered(scores: &[f64]) {
    let mut rows: Vec<u32> = (0..scores.len() as u32).collect();
    rows.sort_by(|a, b| scores[*a as usize].partial_cmp(&scores[*b as usize]).unwrap());
    for at in 0..rows.len() {
        if rows.get(at + 1).is_none_or(|next| scores[(rows[at] & !END) as usize] < scores[*next as usize]) {
            rows[at] |= END;
        }
    }
    assert_eq!(ascending(scores, |_| true), rows);
}

#[test]
fn a_million_rows_are_in_the_order_of_their_scores() {
    let scores: Vec<f64> = (0..1_000_000_u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 10).sqrt()).collect();
    ordered(&scores);
}

proptest! {
    #[test]
    fn auc_counts_pairs((scores, labels) in (2usize..30).prop_flat_map(|rows| (tied_scores(rows), labels(rows)))) {
        prop_assert_eq!(rank(Metric::Auc, &scores, &labels, None, 1).unwrap()[0], brute_auc(&scores, &labels));
    }

    #[test]
    fn weights_are_repeated_rows(
        (scores, labels, times) in (2usize..20)
            .prop_flat_map(|rows| (tied_scores(rows), labels(rows), prop::collection::vec(1usize..4, rows)))
    ) {
        let weights: Vec<f64> = times.iter().map(|times| *times as f64).collect();
        let repeat = |row: usize| std::iter::repeat_n(row, times[row]);
        let rows: Vec<usize> = (0..scores.len()).flat_map(repeat).collect();
        let many: Vec<f64> = rows.iter().map(|row| scores[*row]).collect();
        let their: Vec<bool> = rows.iter().map(|row| labels[*row]).collect();
        for metric in [Metric::Auc, Metric::AveragePrecision] {
            let weighted = rank(metric, &scores, &labels, Some(&weights), 1).unwrap()[0];
            prop_assert!((weighted - rank(metric, &many, &their, None, 1).unwrap()[0]).abs() < 1e-12);
        }
    }

    #[test]
    fn many_rows_are_in_the_order_of_their_scores(
        scores in prop::collection::vec(
            prop_oneof![-1.0..1.0, any::<f64>(), Just(f64::MAX), Just(f64::MIN), Just(-0.0), Just(0.0), Just(0.25)]
                .prop_filter("a score is finite", |score: &f64| score.is_finite()),
            1..2000,
        ),
    ) {
        ordered(&scores);
        // Without the huge ones the places tell the rest apart.
        ordered(&scores.iter().map(|score| score.clamp(-1.0, 1.0)).collect::<Vec<_>>());
    }

    #[test]
    fn keys_keep_the_order_of_floats(a: f64, b: f64) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        prop_assert_eq!(order_key(a).cmp(&order_key(b)), a.partial_cmp(&b).unwrap());
    }

    #[test]
    fn a_midpoint_separates(a: f64, b: f64) {
        prop_assume!(a.is_finite() && b.is_finite() && a != b);
        let (low, high) = (a.min(b), a.max(b));
        let middle = midpoint(low, high);
        prop_assert!(low <= middle && middle < high);
        let next = f64::from_bits(low.abs().to_bits() + 1);
        let neighbour = if low > 0.0 { next } else { low + f64::MIN_POSITIVE };
        prop_assert!(neighbour <= low || (low <= midpoint(low, neighbour) && midpoint(low, neighbour) < neighbour));
    }

    #[test]
    fn no_threshold_beats_the_sweep(
        (scores, labels) in (2usize..30).prop_flat_map(|rows| (tied_scores(rows), labels(rows)))
    ) {
        let found = sweep(&scores, &labels, None, None, Objective::MacroF1, 1).unwrap()[0];
        prop_assert!((f1(&scores, &labels, found.threshold) - found.value).abs() < 1e-12);
        for threshold in scores.iter().copied().chain([f64::NEG_INFINITY, f64::INFINITY, -0.5, 0.25]) {
            prop_assert!(f1(&scores, &labels, threshold) <= found.value + 1e-12);
        }
    }

    #[test]
    fn intervals_do_not_depend_on_the_number_of_threads(
        (scores, labels) in (4usize..30).prop_flat_map(|rows| (tied_scores(2 * rows), labels(rows))), seed: u64,
    ) {
        let rows = labels.len();
        let sample =
            Sample { values: &scores, rows, labels: Some(&labels), groups: None, clusters: None, weights: None };
        for kind in [Kind::Percentile, Kind::Bca, Kind::Studentized] {
            let options = Options {
                statistic: Statistic::Auc, average: Average::default(), reference: None, resamples: 70,
                confidence: 0.9, kind, seed,
            };
            let one = bootstrap(&sample, &options, 1).unwrap();
            let four = bootstrap(&sample, &options, 4).unwrap();
            prop_assert_eq!(&one.replicates, &four.replicates);
            prop_assert_eq!((&one.low, &one.high), (&four.low, &four.high));
            for method in 0..2 {
                prop_assert_eq!(one.estimate[method], brute_auc(&scores[method * rows..(method + 1) * rows], &labels));
                prop_assert!(one.low[method] <= one.high[method]);
            }
        }
    }

    #[test]
    fn the_quantile_inverts_the_distribution(p in 1e-300f64..0.5) {
        prop_assert!((normal::cdf(normal::quantile(p)) / p - 1.0).abs() < 1e-12);
        prop_assert!((normal::cdf(normal::quantile(1.0 - p)) - (1.0 - p)).abs() < 1e-15);
    }
}

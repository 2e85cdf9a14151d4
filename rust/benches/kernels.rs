//! Speed of the kernels on data in memory: `cargo bench`. Peers run in `workflow/scripts/benchmark.py`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use polygate_kernels::bootstrap::{Average, Kind, Options, Sample, Statistic, bootstrap};
use polygate_kernels::linear::dot::{Directions, InstructionSet};
use polygate_kernels::logistic::{Problem, Solver, fit};
use polygate_kernels::numeric::random::Streams;
use polygate_kernels::ranking::threshold::{Objective, sweep};
use polygate_kernels::ranking::{Metric, rank};
use polygate_kernels::store::Float;

/// Roughly normal numbers: sums of three uniform ones.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut stream = Streams::new(seed).stream(0);
    (0..count).map(|_| (0..3).map(|_| 2.0 * stream.uniform() - 1.0).sum()).collect()
}

fn dot(criterion: &mut Criterion) {
    const WIDTH: usize = 3584;
    const ROWS: usize = 64;
    let rows: Vec<u8> =
        numbers(ROWS * WIDTH, 1).iter().flat_map(|value| half::bf16::from_f64(*value).to_le_bytes()).collect();
    let mut group = criterion.benchmark_group("dot products of bfloat16 in cache");
    group.throughput(Throughput::Bytes(rows.len() as u64));
    for set in [InstructionSet::Avx512, InstructionSet::Avx2, InstructionSet::Portable] {
        if !set.available() {
            continue;
        }
        for count in [1, 5, 10, 64] {
            let directions = Directions::new(&numbers(count * WIDTH, 2), WIDTH, Float::Bf16, set);
            let mut out = vec![0.0; ROWS * count];
            group.bench_function(BenchmarkId::new(format!("{set:?}"), count), |bencher| {
                bencher.iter(|| directions.dot(black_box(&rows), &mut out));
            });
        }
    }
    group.finish();
}

fn scored(rows: usize, harmful: usize) -> (Vec<f64>, Vec<bool>) {
    let labels: Vec<bool> = (0..rows).map(|row| row < harmful).collect();
    let scores = numbers(rows, 3).iter().zip(&labels).map(|(x, label)| x + f64::from(u8::from(*label))).collect();
    (scores, labels)
}

fn statistics(criterion: &mut Criterion) {
    let (scores, labels) = scored(1072, 572);
    let sample =
        Sample { values: &scores, rows: 1072, labels: Some(&labels), groups: None, clusters: None, weights: None };
    for (name, statistic) in [("auc", Statistic::Auc), ("average precision", Statistic::AveragePrecision)] {
        for kind in [Kind::Percentile, Kind::Bca] {
            let options = Options {
                statistic,
                average: Average::default(),
                reference: None,
                resamples: 1000,
                confidence: 0.95,
                kind,
                seed: 0,
            };
            criterion.bench_function(&format!("bootstrap of {name}, {kind:?}, one thread"), |bencher| {
                bencher.iter(|| bootstrap(&sample, &options, 1).map(|found| found.low));
            });
        }
    }
    let (scores, labels) = scored(25_000, 12_000);
    let groups: Vec<i64> = (0..25_000).map(|row| row % 23).collect();
    criterion.bench_function("threshold sweep, 23 groups, 25000 rows", |bencher| {
        bencher.iter(|| sweep(&scores, &labels, Some(&groups), None, Objective::MacroF1, 1));
    });
    for metric in [Metric::Auc, Metric::AveragePrecision] {
        criterion.bench_function(&format!("{metric:?} of 25000 rows"), |bencher| {
            bencher.iter(|| rank(metric, &scores, &labels, None, 1));
        });
    }
}

fn logistic(criterion: &mut Criterion) {
    let source = numbers(4600 * 10, 4);
    let source_labels: Vec<bool> = source.chunks(10).map(|row| row[0] + row[3] > 0.2).collect();
    let extra = numbers(8 * 32 * 10, 5);
    let extra_labels: Vec<bool> = (0..8 * 32).map(|row| row % 2 == 0).collect();
    let problem = Problem {
        features: 10,
        source: &source,
        source_labels: &source_labels,
        extra: &extra,
        extra_labels: &extra_labels,
        fits: 8,
        extra_rows: None,
        initial: None,
    };
    for solver in [Solver::Convex, Solver::AdamW] {
        criterion.bench_function(&format!("eight fits of 4600 × 10, {solver:?}, one thread"), |bencher| {
            bencher.iter(|| fit(&problem, solver, 1).map(|fits| fits.len()));
        });
    }
}

criterion_group!(benches, dot, statistics, logistic);
criterion_main!(benches);

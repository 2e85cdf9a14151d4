//! Projections agree with float64 on every instruction set, for every stored type and any shape.

mod common;

use polygate_kernels::linear::dot::{Directions, InstructionSet};
use polygate_kernels::linear::means::class_means;
use polygate_kernels::linear::project::{DirectionSet, project_with};
use polygate_kernels::store::Float;
use proptest::prelude::*;

const TYPES: [Float; 4] = [Float::Bf16, Float::F16, Float::F32, Float::F64];
const SETS: [InstructionSet; 3] = [InstructionSet::Avx512, InstructionSet::Avx2, InstructionSet::Portable];

fn values(seed: u64, count: usize) -> Vec<f64> {
    // A linear congruential generator is random enough for dot products.
    let mut state = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
        })
        .collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn every_instruction_set_gives_the_dot_product(
        rows in 1usize..12, width in 1usize..700, count in 1usize..14, dtype in 0usize..4, seed: u64,
    ) {
        let folder = common::folder();
        let (path, held) = common::write(&folder, &values(seed, rows * width), [rows, width], TYPES[dtype]);
        let directions = values(!seed, count * width);
        let set = DirectionSet { values: &directions, count, width, per_tensor: false };
        for instructions in SETS.into_iter().filter(|set| set.available()) {
            let found = project_with(instructions, &[&path], &["a".into()], &set, 2).unwrap();
            for (row, x) in held.chunks(width).enumerate() {
                for (k, v) in directions.chunks(width).enumerate() {
                    let exact: f64 = x.iter().zip(v).map(|(x, v)| x * v).sum();
                    let error = (f64::from(found.scores[row * count + k]) - exact).abs();
                    prop_assert!(error <= 1e-6 * norm(x) * norm(v), "{instructions:?}: error {error:e}");
                }
            }
        }
    }

    /// Rows on the heap and none beyond them, so that a sanitizer sees every read outside; files are mapped whole pages.
    #[test]
    fn no_byte_outside_the_rows_is_read(
        rows in 1usize..7, width in 1usize..100, count in 1usize..7, dtype in 0usize..3, offset in 0usize..4, seed: u64,
    ) {
        let (bytes, held) = common::encode(&values(seed, rows * width), TYPES[dtype]);
        let mut moved = vec![0; offset];
        moved.extend(bytes);
        let moved = moved.into_boxed_slice();
        let directions = values(!seed, count * width);
        for instructions in SETS.into_iter().filter(|set| set.available()) {
            let mut out = vec![0.0; rows * count].into_boxed_slice();
            Directions::new(&directions, width, TYPES[dtype], instructions).dot(&moved[offset..], &mut out);
            for (row, x) in held.chunks(width).enumerate() {
                for (k, v) in directions.chunks(width).enumerate() {
                    let exact: f64 = x.iter().zip(v).map(|(x, v)| x * v).sum();
                    prop_assert!((f64::from(out[row * count + k]) - exact).abs() <= 1e-6 * norm(x) * norm(v));
                }
            }
        }
    }

    #[test]
    fn means_are_those_of_float64(rows in 2usize..40, width in 1usize..1100, dtype in 0usize..4, seed: u64) {
        let folder = common::folder();
        let (path, held) = common::write(&folder, &values(seed, rows * width), [rows, width], TYPES[dtype]);
        let labels: Vec<i32> = (0..rows).map(|row| row as i32 % 2).collect();
        let found = class_means(&[&path], &["a".into()], &labels, 2).unwrap();
        for class in 0..2 {
            let chosen: Vec<&[f64]> = held.chunks(width).skip(class).step_by(2).collect();
            for column in 0..width {
                let mean = chosen.iter().map(|row| row[column]).sum::<f64>() / chosen.len() as f64;
                prop_assert!((found.means[class * width + column] - mean).abs() < 1e-13);
            }
        }
    }
}

#[test]
fn the_widest_instruction_set_is_used() {
    assert_eq!(Some(InstructionSet::detect()), SETS.into_iter().find(|set| set.available()));
}

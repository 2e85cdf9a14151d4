//! Dot products of stored rows with a few float32 directions, for each instruction set.
//!
//! Products are accumulated in float32 lanes, 32 to a lane, which are then added up in float64: the error stays near
//! 1e-7 of |row|·|direction| at any width. A (row, direction) pair is always summed in
//! the same order, whatever the block of rows or directions that it is computed in.

use crate::store::Float;
use crate::store::widen::widen;

/// Products that a float32 lane sums before it goes to float64.
const SPAN: usize = 32;

/// Instruction set that the dot products use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512 F, BW, DQ, VL (16 lanes).
    Avx512,
    /// AVX2, FMA and F16C (8 lanes).
    Avx2,
    /// Plain Rust, in float64 throughout.
    Portable,
}

impl InstructionSet {
    /// The widest one that this machine has.
    pub fn detect() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|set| set.available()).unwrap_or(Self::Portable)
    }

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
            }
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            Self::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// Values that one step of the kernel takes: two registers' worth.
    fn group(self) -> usize {
        match self {
            Self::Avx512 => 32,
            Self::Avx2 => 16,
            Self::Portable => 1,
        }
    }
}

/// Directions laid out for one instruction set and stored type.
pub struct Directions {
    set: InstructionSet,
    dtype: Float,
    width: usize,
    count: usize,
    /// [count, padded] float32, zeros beyond `width`; for bfloat16 each group holds its even values, then its odd ones.
    single: Vec<f32>,
    padded: usize,
    /// [count, width] float64, for the portable path and for float64 tensors.
    double: Vec<f64>,
}

impl Directions {
    /// Lay out `values` [count, width] for rows of `dtype`.
    pub fn new(values: &[f64], width: usize, dtype: Float, set: InstructionSet) -> Self {
        assert!(set.available() && width > 0 && values.len().is_multiple_of(width));
        let count = values.len() / width;
        let set = if dtype == Float::F64 { InstructionSet::Portable } else { set };
        let group = set.group();
        let padded = width.next_multiple_of(group);
        let (mut single, mut double) = (Vec::new(), Vec::new());
        if set == InstructionSet::Portable {
            double = values.to_vec();
        } else {
            single = vec![0.0; count * padded];
            for (index, value) in values.iter().enumerate() {
                let (row, column) = (index / width, index % width);
                let within = column % group;
                let slot = if dtype == Float::Bf16 { within / 2 + (within % 2) * (group / 2) } else { within };
                single[row * padded + column - within + slot] = *value as f32;
            }
        }
        Self { set, dtype, width, count, single, padded, double }
    }

    /// Dot products of `rows` (rows of `width` values, at any alignment) with every direction, to `out` [rows, count].
    pub fn dot(&self, rows: &[u8], out: &mut [f32]) {
        let stride = self.width * self.dtype.size();
        assert_eq!(rows.len() % stride, 0);
        assert_eq!(rows.len() / stride * self.count, out.len());
        match self.set {
            InstructionSet::Portable => self.dot_portable(rows, out),
            // SAFETY: `new` checked that the machine has the instructions; `rows` holds whole rows, `out` a slot for
            // each row and direction.
            #[cfg(target_arch = "x86_64")]
            _ => unsafe { self.dot_simd(rows, out) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("only the portable path is available here"),
        }
    }

    fn dot_portable(&self, rows: &[u8], out: &mut [f32]) {
        let mut wide = vec![0.0; self.width];
        let stride = self.width * self.dtype.size();
        for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(self.count)) {
            widen(self.dtype, row, &mut wide);
            for (direction, out) in self.double.chunks_exact(self.width).zip(out) {
                *out = dot_lanes(&wide, direction) as f32;
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn dot_simd(&self, rows: &[u8], out: &mut [f32]) {
        type Kernel = unsafe fn(&Directions, &[u8], &mut [f32]);
        let kernel: Kernel = match (self.set, self.dtype) {
            (InstructionSet::Avx512, Float::Bf16) => x86::avx512_bf16,
            (InstructionSet::Avx512, Float::F16) => x86::avx512_f16,
            (InstructionSet::Avx512, _) => x86::avx512_f32,
            (_, Float::Bf16) => x86::avx2_bf16,
            (_, Float::F16) => x86::avx2_f16,
            (_, _) => x86::avx2_f32,
        };
        // SAFETY: as promised by the caller.
        unsafe { kernel(self, rows, out) }
    }
}

fn dot_lanes(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Directions, SPAN};

    /// Rows that share a load of the directions.
    const ROWS: usize = 4;

    /// Defines the kernel of one instruction set and stored type. `$pair` loads a group as two registers of float32.
    /// `$directions` share a load of the rows: ROWS × $directions accumulators, the rows and a direction must fit into
    /// the registers, 32 with AVX-512 and 16 with AVX2 (where five directions spill: 1.6 times slower).
    macro_rules! kernel {
        ($name:ident, $features:literal, $directions:literal, $single:ty, $lanes:literal, $bytes:literal,
         $zero:ident, $load:ident, $fma:ident, $total:ty, $clear:ident, $promote:ident, $pair:ident) => {
            /// Dot products of whole rows with all directions.
            ///
            /// # Safety
            /// The machine has the instructions; `rows` is whole rows and `out` has a slot per row and direction.
            #[target_feature(enable = $features)]
            pub unsafe fn $name(directions: &Directions, rows: &[u8], out: &mut [f32]) {
                const GROUP: usize = 2 * $lanes;

                #[target_feature(enable = $features)]
                unsafe fn block<const R: usize, const K: usize>(
                    directions: &Directions,
                    first: usize,
                    rows: *const u8,
                    out: *mut f32,
                ) {
                    let (width, stride) = (directions.width, directions.width * $bytes);
                    let whole = width / GROUP * GROUP;
                    let mut totals = [[$clear(); K]; R];
                    let mut start = 0;
                    while start < whole {
                        let end = whole.min(start + SPAN * $lanes);
                        let mut sums = [[$zero(); K]; R];
                        let mut column = start;
                        while column < end {
                            // SAFETY: columns below `whole` lie within each row and each padded direction.
                            unsafe {
                                let mut values: [($single, $single); R] = [($zero(), $zero()); R];
                                for r in 0..R {
                                    let value = rows.add(r * stride + column * $bytes);
                                    values[r] = $pair(value);
                                    if first == 0 {
                                        // The same columns of the rows after these; a prefetch beyond the end of the
                                        // tensor is harmless.
                                        let ahead = value.wrapping_add(R * stride);
                                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                                        if GROUP * $bytes > 64 {
                                            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(64).cast());
                                        }
                                    }
                                }
                                for k in 0..K {
                                    let direction =
                                        directions.single.as_ptr().add((first + k) * directions.padded + column);
                                    let (a, b) = ($load(direction), $load(direction.add($lanes)));
                                    for r in 0..R {
                                        sums[r][k] = $fma(values[r].0, a, sums[r][k]);
                                        sums[r][k] = $fma(values[r].1, b, sums[r][k]);
                                    }
                                }
                            }
                            column += GROUP;
                        }
                        for r in 0..R {
                            for k in 0..K {
                                totals[r][k] = $promote(totals[r][k], sums[r][k]);
                            }
                        }
                        start = end;
                    }
                    for r in 0..R {
                        // The last group, filled up with zeros.
                        let mut tail = [0u8; GROUP * $bytes];
                        let rest = (width - whole) * $bytes;
                        if rest > 0 {
                            // SAFETY: the row has `rest` bytes beyond column `whole`, the buffer has more.
                            unsafe {
                                std::ptr::copy_nonoverlapping(
                                    rows.add(r * stride + whole * $bytes),
                                    tail.as_mut_ptr(),
                                    rest,
                                );
                            }
                        }
                        for k in 0..K {
                            let mut total = totals[r][k];
                            if rest > 0 {
                                // SAFETY: directions are padded to whole groups.
                                unsafe {
                                    let (x, y) = $pair(tail.as_ptr());
                                    let direction =
                                        directions.single.as_ptr().add((first + k) * directions.padded + whole);
                                    let sum = $fma(x, $load(direction), $zero());
                                    total = $promote(total, $fma(y, $load(direction.add($lanes)), sum));
                                }
                            }
                            // SAFETY: a vector of float64 and an array of as many float64 are the same bytes.
                            let lanes: [f64; $lanes / 2] = unsafe { std::mem::transmute::<$total, _>(total) };
                            // SAFETY: `out` has a slot for this row and direction.
                            unsafe { *out.add(r * directions.count + first + k) = lanes.iter().sum::<f64>() as f32 };
                        }
                    }
                }

                #[target_feature(enable = $features)]
                unsafe fn some_rows<const R: usize>(directions: &Directions, rows: *const u8, out: *mut f32) {
                    let mut first = 0;
                    while first < directions.count {
                        let left = directions.count - first;
                        // Even blocks: with five at a time ten directions are 5 + 5 and six are 3 + 3.
                        let next = left.div_ceil(left.div_ceil($directions));
                        // SAFETY: as promised by the caller, for R rows and `next` directions from `first`.
                        unsafe {
                            match next {
                                1 => block::<R, 1>(directions, first, rows, out),
                                2 => block::<R, 2>(directions, first, rows, out),
                                3 => block::<R, 3>(directions, first, rows, out),
                                4 => block::<R, 4>(directions, first, rows, out),
                                _ => block::<R, 5>(directions, first, rows, out),
                            }
                        }
                        first += next;
                    }
                }

                let stride = directions.width * $bytes;
                let count = rows.len() / stride;
                let mut row = 0;
                while row < count {
                    let taken = ROWS.min(count - row);
                    // SAFETY: `taken` rows remain, and their slots.
                    unsafe {
                        let (from, to) =
                            (rows.as_ptr().add(row * stride), out.as_mut_ptr().add(row * directions.count));
                        match taken {
                            1 => some_rows::<1>(directions, from, to),
                            2 => some_rows::<2>(directions, from, to),
                            3 => some_rows::<3>(directions, from, to),
                            _ => some_rows::<ROWS>(directions, from, to),
                        }
                    }
                    row += taken;
                }
            }
        };
    }

    /// Adds the lanes of a span to the totals in float64.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx")]
    fn promote512(total: __m512d, sums: __m512) -> __m512d {
        let halves = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps::<1>(sums));
        _mm512_add_pd(total, _mm512_cvtps_pd(halves))
    }

    /// Adds the lanes of a span to the totals in float64.
    #[inline]
    #[target_feature(enable = "avx")]
    fn promote256(total: __m256d, sums: __m256) -> __m256d {
        let low = _mm256_cvtps_pd(_mm256_castps256_ps128(sums));
        let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(sums));
        _mm256_add_pd(total, _mm256_add_pd(low, high))
    }

    /// Defines a load of unaligned memory.
    macro_rules! load {
        ($features:literal, $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block) => {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller points at as many readable bytes as the loads take.
                unsafe { $body }
            }
        };
    }

    load!("avx512f", load512(from: *const f32) -> __m512 { _mm512_loadu_ps(from) });
    // A bfloat16 is the upper half of a float32: of each 32-bit word the odd value is its upper half as it stands and
    // the even value is its lower half shifted up. Two operations for 32 values, where widening in order takes four.
    load!("avx512f", pair512_bf16(from: *const u8) -> (__m512, __m512) {
        let words = _mm512_loadu_si512(from.cast());
        let even = _mm512_slli_epi32::<16>(words);
        let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        (_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd))
    });
    load!("avx512f,avx,avx2", pair512_f16(from: *const u8) -> (__m512, __m512) {
        let low = _mm256_loadu_si256(from.cast());
        let high = _mm256_loadu_si256(from.add(32).cast());
        (_mm512_cvtph_ps(low), _mm512_cvtph_ps(high))
    });
    load!("avx512f", pair512_f32(from: *const u8) -> (__m512, __m512) {
        (_mm512_loadu_ps(from.cast()), _mm512_loadu_ps(from.add(64).cast()))
    });

    load!("avx", load256(from: *const f32) -> __m256 { _mm256_loadu_ps(from) });
    load!("avx2", pair256_bf16(from: *const u8) -> (__m256, __m256) {
        let words = _mm256_loadu_si256(from.cast());
        let even = _mm256_slli_epi32::<16>(words);
        let odd = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        (_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd))
    });
    load!("avx2,f16c", pair256_f16(from: *const u8) -> (__m256, __m256) {
        let low = _mm_loadu_si128(from.cast());
        let high = _mm_loadu_si128(from.add(16).cast());
        (_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
    });
    load!("avx", pair256_f32(from: *const u8) -> (__m256, __m256) {
        (_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.add(32).cast()))
    });

    macro_rules! avx512 {
        ($name:ident, $bytes:literal, $pair:ident) => {
            kernel!(
                $name,
                "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
                5,
                __m512,
                16,
                $bytes,
                _mm512_setzero_ps,
                load512,
                _mm512_fmadd_ps,
                __m512d,
                _mm512_setzero_pd,
                promote512,
                $pair
            );
        };
    }
    macro_rules! avx2 {
        ($name:ident, $bytes:literal, $pair:ident) => {
            kernel!(
                $name,
                "avx2,fma,f16c",
                2,
                __m256,
                8,
                $bytes,
                _mm256_setzero_ps,
                load256,
                _mm256_fmadd_ps,
                __m256d,
                _mm256_setzero_pd,
                promote256,
                $pair
            );
        };
    }
    avx512!(avx512_bf16, 2, pair512_bf16);
    avx512!(avx512_f16, 2, pair512_f16);
    avx512!(avx512_f32, 4, pair512_f32);
    avx2!(avx2_bf16, 2, pair256_bf16);
    avx2!(avx2_f16, 2, pair256_f16);
    avx2!(avx2_f32, 4, pair256_f32);
}

//! From stored types to float64, exactly.

/// Floating-point types that activations come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// bfloat16: the upper half of a float32.
    Bf16,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Float {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Float::Bf16 | Float::F16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}

/// A stored type as its little-endian bytes.
trait Stored<const BYTES: usize> {
    fn widen(bytes: [u8; BYTES]) -> f64;
}

struct Bf16;
struct F16;
struct F32;
struct F64;

impl Stored<2> for Bf16 {
    #[inline(always)]
    fn widen(bytes: [u8; 2]) -> f64 {
        f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
    }
}

impl Stored<2> for F16 {
    /// Without a branch, so that loops over it vectorise: exponent and fraction move to their places in a float32 whose
    /// exponent is then 112 too low, which a product with 2¹¹² mends, for subnormal halves too.
    #[inline(always)]
    fn widen(bytes: [u8; 2]) -> f64 {
        let half = u32::from(u16::from_le_bytes(bytes));
        let magnitude = (half & 0x7fff) << 13;
        let special = if magnitude >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
        let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
        f64::from(f32::from_bits(scaled.to_bits() | special | (half & 0x8000) << 16))
    }
}

impl Stored<4> for F32 {
    #[inline(always)]
    fn widen(bytes: [u8; 4]) -> f64 {
        f64::from(f32::from_le_bytes(bytes))
    }
}

impl Stored<8> for F64 {
    #[inline(always)]
    fn widen(bytes: [u8; 8]) -> f64 {
        f64::from_le_bytes(bytes)
    }
}

/// Stored values as float64.
pub fn widen(dtype: Float, bytes: &[u8], out: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn widen_avx2(dtype: Float, bytes: &[u8], out: &mut [f64]) {
            widen_body(dtype, bytes, out);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { widen_avx2(dtype, bytes, out) };
        }
    }
    widen_body(dtype, bytes, out);
}

#[inline(always)]
fn widen_body(dtype: Float, bytes: &[u8], out: &mut [f64]) {
    match dtype {
        Float::Bf16 => widen_typed::<2, Bf16>(bytes, out),
        Float::F16 => widen_typed::<2, F16>(bytes, out),
        Float::F32 => widen_typed::<4, F32>(bytes, out),
        Float::F64 => widen_typed::<8, F64>(bytes, out),
    }
}

#[inline(always)]
fn widen_typed<const BYTES: usize, S: Stored<BYTES>>(bytes: &[u8], out: &mut [f64]) {
    bytes.as_chunks::<BYTES>().0.iter().zip(out).for_each(|(value, out)| *out = S::widen(*value));
}

/// Adds one row or four rows to `sums`; of four, the first two and the last two are added to each other first.
pub fn add_rows(dtype: Float, rows: &[&[u8]], sums: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn add_rows_avx2(dtype: Float, rows: &[&[u8]], sums: &mut [f64]) {
            add_rows_body(dtype, rows, sums);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { add_rows_avx2(dtype, rows, sums) };
        }
    }
    add_rows_body(dtype, rows, sums);
}

#[inline(always)]
fn add_rows_body(dtype: Float, rows: &[&[u8]], sums: &mut [f64]) {
    match dtype {
        Float::Bf16 => add_typed::<2, Bf16>(rows, sums),
        Float::F16 => add_typed::<2, F16>(rows, sums),
        Float::F32 => add_typed::<4, F32>(rows, sums),
        Float::F64 => add_typed::<8, F64>(rows, sums),
    }
}

#[inline(always)]
fn add_typed<const BYTES: usize, S: Stored<BYTES>>(rows: &[&[u8]], sums: &mut [f64]) {
    let count = sums.len();
    let values = |row: usize| &rows[row].as_chunks::<BYTES>().0[..count];
    if rows.len() == 4 {
        let (a, b, c, d) = (values(0), values(1), values(2), values(3));
        for i in 0..count {
            sums[i] += (S::widen(a[i]) + S::widen(b[i])) + (S::widen(c[i]) + S::widen(d[i]));
        }
    } else {
        assert_eq!(rows.len(), 1, "one row or four");
        values(0).iter().zip(sums).for_each(|(value, sum)| *sum += S::widen(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f64();
            let found = F16::widen(bits.to_le_bytes());
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{bits:x}: {found} {expected}");
            assert_eq!(found.is_sign_negative(), expected.is_sign_negative());
            let expected = half::bf16::from_bits(bits).to_f64();
            let found = Bf16::widen(bits.to_le_bytes());
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{bits:x}: {found} {expected}");
        }
    }
}

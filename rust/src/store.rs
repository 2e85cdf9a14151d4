//! Reading activation stores: safetensors files, mapped into memory and checked before a number is read.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use crate::error::{Error, Result};

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

/// A [rows, width] tensor in row-major order, little endian; `bytes` may lie at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Type of the values.
    pub dtype: Float,
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    /// rows × width values.
    pub bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Bytes of rows `first..first + count`.
    pub fn rows(&self, first: usize, count: usize) -> &'a [u8] {
        let stride = self.width * self.dtype.size();
        &self.bytes[first * stride..(first + count) * stride]
    }

    /// Value at a row and column, in float64.
    pub fn value(&self, row: usize, column: usize) -> f64 {
        let start = (row * self.width + column) * self.dtype.size();
        let bytes = &self.bytes[start..start + self.dtype.size()];
        match self.dtype {
            Float::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            Float::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            Float::F32 => f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes"))),
            Float::F64 => f64::from_le_bytes(bytes.try_into().expect("eight bytes")),
        }
    }

    /// First (row, column) that is NaN or infinite.
    pub fn first_not_finite(&self) -> Option<(usize, usize)> {
        (0..self.rows)
            .flat_map(|row| (0..self.width).map(move |column| (row, column)))
            .find(|&(row, column)| !self.value(row, column).is_finite())
    }
}

/// A safetensors file whose header agrees with its length.
pub struct Store {
    path: PathBuf,
    map: Mmap,
    data: usize,
    metadata: Metadata,
}

impl Store {
    /// Map a file and check its header: sizes, offsets without gap or overlap, and the length of the file.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(Error::Store { path: path.to_owned(), reason: "not a file".into() });
        }
        // SAFETY: a map is unsound if another process shortens or rewrites the file while we read. Stores are written
        // to a temporary file and renamed, so a path's bytes never change under a reader: the map keeps the old file.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::check(path, map)
    }

    fn check(path: &Path, map: Mmap) -> Result<Self> {
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| Error::Store {
            path: path.to_owned(),
            reason: format!("truncated or not a safetensors file ({error})"),
        })?;
        Ok(Self { path: path.to_owned(), data: header + size_of::<u64>(), map, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::Store { path: self.path.clone(), reason: reason.into() }
    }

    /// A floating-point tensor of two dimensions, neither of them 0.
    pub fn matrix(&self, name: &str) -> Result<Matrix<'_>> {
        let info = self.metadata.info(name).ok_or_else(|| self.error(format!("no tensor {name}")))?;
        let dtype = match info.dtype {
            Dtype::BF16 => Float::Bf16,
            Dtype::F16 => Float::F16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            other => {
                let reason = format!("tensor {name} is {other:?}, activations are BF16, F16, F32 or F64");
                return Err(self.error(reason));
            }
        };
        let &[rows, width] = info.shape.as_slice() else {
            return Err(self.error(format!("tensor {name} has shape {:?}, expected [rows, width]", info.shape)));
        };
        if rows == 0 || width == 0 {
            return Err(self.error(format!("tensor {name} is empty: shape [{rows}, {width}]")));
        }
        let bytes = &self.map[self.data + info.data_offsets.0..self.data + info.data_offsets.1];
        assert_eq!(bytes.len(), rows * width * dtype.size(), "the header was checked");
        Ok(Matrix { dtype, rows, width, bytes })
    }

    /// Several tensors of one shape.
    pub fn matrices(&self, names: &[String]) -> Result<Vec<Matrix<'_>>> {
        if names.is_empty() {
            return Err(Error::Invalid("no tensors named".into()));
        }
        let matrices = names.iter().map(|name| self.matrix(name)).collect::<Result<Vec<_>>>()?;
        let first = &matrices[0];
        for (name, matrix) in names.iter().zip(&matrices) {
            if (matrix.rows, matrix.width) != (first.rows, first.width) {
                return Err(self.error(format!(
                    "tensor {name} has shape [{}, {}], tensor {} has [{}, {}]",
                    matrix.rows, matrix.width, names[0], first.rows, first.width
                )));
            }
        }
        Ok(matrices)
    }
}

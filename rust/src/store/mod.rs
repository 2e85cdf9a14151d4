//! Reading activation stores: safetensors files, mapped into memory and checked before a number is read.
//!
//! Pages are let go once their rows are done with, so that a store of any size takes little memory. Reading into
//! buffers instead of mapping was measured too and is slower: 12-15 GB/s on one core against 19-30 for a file that the
//! page cache of Linux holds in large pages, and 7 to 10 for either where it holds it in single ones.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result, invalid};

pub mod checksum;
pub(crate) mod widen;

use widen::widen;

pub use widen::Float;

/// Bytes that a thread takes at a time, or one row where that is more.
const CHUNK: usize = 1 << 20;

/// Bytes that are let go at a time: the fewer the calls, the fewer large pages are split.
const WINDOW: usize = 16 << 20;

/// Where the metadata of a file holds the digests of its tensors.
const DIGESTS: &str = "polygate.digests";

/// Names of a header, to see names that occur twice: the map that the library reads keeps one of them silently.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A safetensors file whose header agrees with its length.
pub struct Store {
    path: PathBuf,
    map: Mmap,
    data: usize,
    metadata: Metadata,
    /// CRC-32 of each tensor, where the file holds digests.
    digests: Option<HashMap<String, u32>>,
}

impl Store {
    /// Map a file and check its header: names, sizes, offsets without gap or overlap, and the length of the file.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(Error::Store { path: path.to_owned(), reason: "not a file".into() });
        }
        // SAFETY: a map is unsound if another process shortens or rewrites the file while we read. Stores are written
        // to a temporary file and renamed, so a path's bytes never change under a reader: the map keeps the old file.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        // Without it a fault on a file that is not in the page cache reads a page at a time: 0.2 GB/s instead of 4.
        // What the operating system does not support it may ignore.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Sequential);
        let (header, metadata) = parse(&map).map_err(|reason| Error::Store {
            path: path.to_owned(),
            reason: format!("truncated or not a safetensors file ({reason})"),
        })?;
        let digests = digests(&metadata)
            .map_err(|_| Error::Store { path: path.to_owned(), reason: "its digests are no object of texts".into() })?;
        Ok(Self { path: path.to_owned(), data: header + size_of::<u64>(), map, metadata, digests })
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::Store { path: self.path.clone(), reason: reason.into() }
    }

    /// Where a floating-point tensor of two dimensions lies, neither of them 0.
    fn part(&self, name: &str, first: usize) -> Result<(Part<'_>, Float, usize)> {
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
        let start = self.data + info.data_offsets.0;
        let digest = match &self.digests {
            None => None,
            Some(held) => Some(*held.get(name).ok_or_else(|| self.error(format!("no digest of tensor {name}")))?),
        };
        assert_eq!(info.data_offsets.1 - info.data_offsets.0, rows * width * dtype.size(), "the header was checked");
        Ok((Part { store: self, rows: first..first + rows, start, digest }, dtype, width))
    }

    /// Drop pages from the memory of this process; they stay in the page cache.
    fn release(&self, bytes: Range<usize>) {
        // SAFETY: the map is of a file and read-only, so pages that are dropped are read again as they were.
        #[cfg(unix)]
        let _ =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
        #[cfg(not(unix))]
        let _ = bytes;
    }
}

/// Length of the header, and what it says.
fn parse(file: &[u8]) -> std::result::Result<(usize, Metadata), String> {
    let (length, metadata) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
    let header = &file[size_of::<u64>()..size_of::<u64>() + length];
    let Names(names) = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok((length, metadata)),
        Some(name) => Err(format!("two entries {name}")),
    }
}

/// The CRC-32 that the metadata holds of each tensor, None where it holds none of any.
fn digests(metadata: &Metadata) -> serde_json::Result<Option<HashMap<String, u32>>> {
    let Some(held) = metadata.metadata().as_ref().and_then(|metadata| metadata.get(DIGESTS)) else {
        return Ok(None);
    };
    let texts: HashMap<String, String> = serde_json::from_str(held)?;
    let read = |(name, text): (String, String)| Some((name, u32::from_str_radix(&text, 16).ok()?));
    Ok(Some(texts.into_iter().filter_map(read).collect()))
}

/// Open files whose rows follow each other: one store, or the shards of one.
pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Store>> {
    if paths.is_empty() {
        return invalid!("no files named");
    }
    paths.iter().map(|path| Store::open(path.as_ref())).collect()
}

/// The rows that one file holds of a tensor.
struct Part<'a> {
    store: &'a Store,
    rows: Range<usize>,
    start: usize,
    digest: Option<u32>,
}

impl<'a> Part<'a> {
    /// Where rows lie in the file.
    fn bytes(&self, rows: &Range<usize>, stride: usize) -> Range<usize> {
        let at = |row| self.start + (row - self.rows.start) * stride;
        at(rows.start)..at(rows.end)
    }
}

/// Some rows of a tensor.
pub struct Chunk<'a> {
    /// Which rows.
    pub rows: Range<usize>,
    /// Their values, little endian, at any alignment.
    pub bytes: &'a [u8],
}

/// A [rows, width] tensor in row-major order, in one file or spread over several in order of rows.
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Type of the values.
    pub dtype: Float,
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    parts: Vec<Part<'a>>,
}

impl<'a> Tensor<'a> {
    fn find(stores: &'a [Store], name: &'a str) -> Result<Self> {
        let (first, dtype, width) = stores[0].part(name, 0)?;
        let mut rows = first.rows.end;
        let mut parts = vec![first];
        for store in &stores[1..] {
            let (part, other, columns) = store.part(name, rows)?;
            if (other, columns) != (dtype, width) {
                return Err(store.error(format!(
                    "tensor {name} holds rows of {columns} {other:?}, in {} of {width} {dtype:?}",
                    stores[0].path.display()
                )));
            }
            rows = part.rows.end;
            parts.push(part);
        }
        Ok(Self { name, dtype, rows, width, parts })
    }

    /// Bytes of a row.
    pub fn stride(&self) -> usize {
        self.width * self.dtype.size()
    }

    /// `rows` in pieces of a megabyte that lie in one file each.
    pub fn chunks(&self, rows: Range<usize>) -> impl Iterator<Item = Chunk<'a>> {
        let (stride, mut row) = (self.stride(), rows.start);
        std::iter::from_fn(move || {
            if row >= rows.end {
                return None;
            }
            let part = self.part(row);
            let end = rows.end.min(part.rows.end).min(row + (CHUNK / stride).max(1));
            let taken = row..end;
            row = end;
            let store: &'a Store = part.store;
            Some(Chunk { bytes: &store.map[part.bytes(&taken, stride)], rows: taken })
        })
    }

    /// Let go of the memory of the chunks up to this one, where it completes a window; they may be read again.
    pub fn release(&self, chunk: &Chunk) {
        let part = self.part(chunk.rows.start);
        let bytes = part.bytes(&chunk.rows, self.stride());
        let last = if chunk.rows.end == part.rows.end { bytes.end } else { bytes.end / WINDOW * WINDOW };
        if last > bytes.start {
            part.store.release(bytes.start / WINDOW * WINDOW..last);
        }
    }

    /// The checksum of a chunk, None where nothing says what it should be.
    pub fn sum(&self, chunk: &Chunk) -> Option<Hasher> {
        self.part(chunk.rows.start).digest.map(|_| {
            let mut sum = Hasher::new();
            sum.update(chunk.bytes);
            sum
        })
    }

    /// An error that names the first file whose digest of this tensor is not that of its rows.
    ///
    /// `sums` are first rows and checksums of all chunks, in their order.
    pub fn check_sums<'s>(&self, sums: impl IntoIterator<Item = (usize, &'s Hasher)>) -> Result<()> {
        let mut found: Vec<Hasher> = vec![Hasher::new(); self.parts.len()];
        for (row, sum) in sums {
            found[self.parts.partition_point(|part| part.rows.end <= row)].combine(sum);
        }
        for (part, sum) in self.parts.iter().zip(found) {
            if part.digest.is_some_and(|digest| digest != sum.finalize()) {
                return Err(part.store.error(format!("the file is damaged (tensor {})", self.name)));
            }
        }
        Ok(())
    }

    /// The part that holds a row.
    fn part(&self, row: usize) -> &Part<'a> {
        &self.parts[self.parts.partition_point(|part| part.rows.end <= row)]
    }

    /// An error about the file that holds `row`.
    pub fn error(&self, row: usize, reason: impl Into<String>) -> Error {
        self.part(row).store.error(reason)
    }

    /// An error that names the first value of `rows` that is NaN or infinite and for which `counts(row, column)`.
    pub fn check_finite(&self, rows: Range<usize>, counts: impl Fn(usize, usize) -> bool) -> Result<()> {
        let mut values = vec![0.0; self.width];
        for chunk in self.chunks(rows) {
            for (row, bytes) in chunk.rows.clone().zip(chunk.bytes.chunks_exact(self.stride())) {
                widen(self.dtype, bytes, &mut values);
                if let Some(column) = (0..self.width).find(|&i| !values[i].is_finite() && counts(row, i)) {
                    let own = row - self.part(row).rows.start;
                    let reason = format!("tensor {} holds {} at row {own}, column {column}", self.name, values[column]);
                    return Err(self.error(row, reason));
                }
            }
            self.release(&chunk);
        }
        Ok(())
    }
}

/// Several tensors of one shape.
pub fn tensors<'a>(stores: &'a [Store], names: &'a [String]) -> Result<Vec<Tensor<'a>>> {
    if names.is_empty() {
        return invalid!("no tensors named");
    }
    let tensors = names.iter().map(|name| Tensor::find(stores, name)).collect::<Result<Vec<_>>>()?;
    let first = &tensors[0];
    match tensors.iter().find(|tensor| (tensor.rows, tensor.width) != (first.rows, first.width)) {
        None => Ok(tensors),
        Some(tensor) => Err(stores[0].error(format!(
            "tensor {} has shape [{}, {}], tensor {} has [{}, {}]",
            tensor.name, tensor.rows, tensor.width, first.name, first.rows, first.width
        ))),
    }
}

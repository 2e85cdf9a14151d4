//! CRC-32 (that of zlib and PNG) of a part of a file, by carry-less multiplication where the processor has it.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};
use crate::numeric::threads::Threads;

/// A piece stays in the processor's cache between being read and being summed.
const PIECE: usize = 128 << 10;

/// The checksum of `length` bytes from `start` on, or of those that are there where the file is shorter.
pub fn of_span<'a>(path: &Path, start: u64, length: u64, threads: impl Into<Threads<'a>>) -> Result<u32> {
    let threads = threads.into();
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut buffer = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
    let (mut sum, mut left) = (crc32fast::Hasher::new(), length);
    while left > 0 {
        if threads.interrupted() {
            return Err(Error::Interrupted);
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(PIECE));
        match file.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(count) => {
                sum.update(&buffer[..count]);
                left -= count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    Ok(sum.finalize())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::of_span;

    /// Bit by bit, as the standard defines it.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
        })
    }

    #[test]
    fn equals_the_definition_for_any_span() {
        assert_eq!(slow(b"123456789"), 0xCBF4_3926);
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        for (start, length) in [(0, 0), (0, 1), (3, 63), (5, 64), (7, 1000), (1, 131_072), (9, 270_001), (0, 300_000)] {
            let sum = of_span(file.path(), start as u64, length as u64, 1).unwrap();
            assert_eq!(sum, slow(&bytes[start..start + length]), "{start} {length}");
        }
        assert_eq!(of_span(file.path(), 299_990, 1 << 60, 1).unwrap(), slow(&bytes[299_990..]));
    }
}

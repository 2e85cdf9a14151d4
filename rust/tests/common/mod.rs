//! Stores written by hand.

use std::io::Write;
use std::path::PathBuf;

use polygate_kernels::store::Float;
use tempfile::TempDir;

/// A folder that goes away with the test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Bytes of values in a stored type, and what the type holds of them.
pub fn encode(values: &[f64], dtype: Float) -> (Vec<u8>, Vec<f64>) {
    let mut bytes = Vec::new();
    let mut held = Vec::new();
    for &value in values {
        match dtype {
            Float::Bf16 => {
                let stored = half::bf16::from_f64(value);
                bytes.extend(stored.to_le_bytes());
                held.push(stored.to_f64());
            }
            Float::F16 => {
                let stored = half::f16::from_f64(value);
                bytes.extend(stored.to_le_bytes());
                held.push(stored.to_f64());
            }
            Float::F32 => {
                bytes.extend((value as f32).to_le_bytes());
                held.push(f64::from(value as f32));
            }
            Float::F64 => {
                bytes.extend(value.to_le_bytes());
                held.push(value);
            }
        }
    }
    (bytes, held)
}

/// A store with one tensor `a`.
pub fn write(folder: &TempDir, values: &[f64], shape: [usize; 2], dtype: Float) -> (PathBuf, Vec<f64>) {
    let name = match dtype {
        Float::Bf16 => "BF16",
        Float::F16 => "F16",
        Float::F32 => "F32",
        Float::F64 => "F64",
    };
    let (data, held) = encode(values, dtype);
    let header = format!(
        r#"{{"a":{{"dtype":"{name}","shape":[{},{}],"data_offsets":[0,{}]}}}}"#,
        shape[0],
        shape[1],
        data.len()
    );
    (write_raw(folder, header.as_bytes(), &data), held)
}

/// A file with any header.
pub fn write_raw(folder: &TempDir, header: &[u8], data: &[u8]) -> PathBuf {
    let path = folder.path().join("store.safetensors");
    let mut file = std::fs::File::create(&path).expect("a file");
    for part in [&(header.len() as u64).to_le_bytes()[..], header, data] {
        file.write_all(part).expect("space on the disk");
    }
    path
}

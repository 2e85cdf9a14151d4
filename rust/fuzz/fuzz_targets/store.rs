//! Any bytes as a store: reading them is an error, or finite numbers of the shape that the header gives.
//!
//! `cargo +nightly fuzz run store -- -max_len=600 -max_total_time=60` in `rust/`; it runs with the address sanitizer.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use polygate_kernels::linear::products::{gram, moments};
use polygate_kernels::linear::project::{DirectionSet, project};
use tempfile::NamedTempFile;

const HEADER: &str = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;

fuzz_target!(|bytes: &[u8]| {
    // As they come, and as what follows a length that is right: few mutations keep a length right.
    let mut framed = (bytes.len().min(HEADER.len()) as u64).to_le_bytes().to_vec();
    framed.extend(bytes);
    for content in [bytes, &framed] {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("space on the disk");
        let (path, names) = ([file.path()], ["a".to_owned()]);
        for width in 1..4 {
            let directions = DirectionSet { values: &vec![1.0; width], count: 1, width, per_tensor: false };
            if let Ok(found) = project(&path, &names, &directions, 1) {
                assert_eq!(found.scores.len(), found.rows);
                assert!(found.rows * width * 2 <= content.len() && found.scores.iter().all(|score| score.is_finite()));
            }
        }
        if let Ok(found) = gram(&path, &names, 1) {
            assert!(found.products.iter().all(|product| product.is_finite()));
        }
        if let Ok(found) = moments(&path, &names, None, 1) {
            assert_eq!(found.scatter.len(), found.width * found.width);
        }
    }
});

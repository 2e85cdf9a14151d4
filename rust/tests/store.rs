//! Whatever bytes a file holds, reading it is an error or gives what the header describes; it never panics.

mod common;

use polygate_kernels::error::Error;
use polygate_kernels::project::{DirectionSet, project};
use polygate_kernels::store::{Float, Store};
use proptest::prelude::*;

fn read(path: &std::path::Path, width: usize) -> Result<Vec<f32>, Error> {
    let directions = vec![1.0; width];
    let set = DirectionSet { values: &directions, count: 1, width, per_tensor: false };
    Ok(project(&[path], &["a".into()], &set, 1)?.scores)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = common::folder();
        let path = folder.path().join("store");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(read(&path, 3).is_err());
    }

    #[test]
    fn a_damaged_file(position: prop::sample::Index, byte: u8, cut in 0usize..10) {
        let folder = common::folder();
        let (path, _) = common::write(&folder, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], Float::F32);
        let mut bytes = std::fs::read(&path).unwrap();
        let header = bytes.len() - 24;
        bytes[position.index(header)] = byte;
        bytes.truncate(bytes.len() - cut);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(scores) = read(&path, 3) {
            prop_assert_eq!(scores, vec![6.0, 15.0]);
        }
    }

    #[test]
    fn any_header(
        dtype in prop::sample::select(vec!["F32", "BF16", "F16", "F64", "I64", "U8", "F8_E4M3", "XX"]),
        shape in prop::collection::vec(prop_oneof![0u64..20, any::<u64>()], 0..4),
        offsets in (prop_oneof![0u64..80, any::<u64>()], prop_oneof![0u64..80, any::<u64>()]),
        length in 0usize..80,
    ) {
        let folder = common::folder();
        let header = format!(
            r#"{{"a":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{},{}]}}}}"#, offsets.0, offsets.1
        );
        let path = common::write_raw(&folder, header.as_bytes(), &vec![0; length]);
        if let Ok(scores) = read(&path, shape.get(1).map_or(1, |width| (*width).min(1000) as usize)) {
            prop_assert_eq!(scores.len() as u64, shape[0]);
            prop_assert_eq!((offsets.0, offsets.1), (0, length as u64));
        }
    }
}

#[test]
fn the_error_names_the_file() {
    let folder = common::folder();
    let path = common::write_raw(&folder, b"{", b"");
    let text = Store::open(&path).err().unwrap().to_string();
    assert!(text.contains("store.safetensors: truncated or not a safetensors file"), "{text}");
}

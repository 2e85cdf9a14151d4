//! Whatever bytes a file holds, reading it is an error or gives what the header describes; it never panics.

mod common;

use polygate_kernels::error::Error;
use polygate_kernels::linear::project::{DirectionSet, project};
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

/// What one damage does to the header of two tensors [2, 3] of float32, `a` of ones and `b` of twos.
fn damaged(what: usize, number: u64, negative: bool) -> String {
    let sign = if negative { "-" } else { "" };
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offsets}]}}"#)
    };
    let (a, b) = (entry("F32", "2,3", "0,24"), entry("F32", "2,3", "24,48"));
    match what {
        0 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", &format!("{sign}{number},3"), "0,24")),
        1 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", &format!("2,{sign}{number}"), "0,24")),
        2 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", "2,3", &format!("{sign}{number},24"))),
        3 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", "2,3", &format!("0,{sign}{number}"))),
        4 => format!(r#"{{"a":{a},"b":{}}}"#, entry("F32", "2,3", &format!("{},{}", number % 48, number % 48 + 24))),
        5 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", "2,3", &format!("{sign}0.{number},24"))),
        6 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", &format!("{number}e{number},3"), "0,24")),
        7 => format!(r#"{{"a":{a},"a":{b}}}"#),
        8 => format!(r#"{{"a":{a},"b":{b},"a":{a}}}"#),
        9 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F32", "2,3,1", "0,24")),
        10 => format!(r#"{{"a":{},"b":{b}}}"#, entry("I32", "2,3", "0,24")),
        11 => format!(r#"{{"a":{},"b":{b}}}"#, entry("F64", "2,3", "0,24")),
        12 => format!(r#"{{"a":{},"b":{b}}}"#, entry("BF16", "2,3", "0,24")),
        _ => format!(r#"{{"a":{a},"b":{b}}}"#),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_lie_is_an_error_or_changes_no_number(
        what in 0usize..14, number in prop_oneof![0u64..60, any::<u64>()], negative: bool, cut in 0usize..60, padding in 0usize..9,
    ) {
        let folder = common::folder();
        let ones = [1f32.to_le_bytes(); 6].concat();
        let data = [ones, [2f32.to_le_bytes(); 6].concat()].concat();
        let header = damaged(what, number, negative) + &" ".repeat(padding);
        let cut = if cut < 48 { cut } else { 0 };
        let path = common::write_raw(&folder, header.as_bytes(), &data[..48 - cut]);
        match read(&path, 3) {
            Ok(scores) => prop_assert_eq!(scores, vec![3.0, 3.0], "{}", header),
            Err(error) => prop_assert!(matches!(error, Error::Store { .. }), "{}: {}", header, error),
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

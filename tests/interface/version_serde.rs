//! Feature `serde`: a version is its number, and so is a fencing token.
#![cfg(feature = "serde")]

use latchwork::{cell::Version, table::FencingToken};
use serde::{Deserialize, Serialize};

#[test]
fn a_version_is_written_as_its_number() {
    for n in [0, 1, 1 << 53, u64::MAX] {
        let text = serde_json::to_string(&Version::new(n)).unwrap();
        assert_eq!(text, n.to_string());
        assert_eq!(
            serde_json::from_str::<Version>(&text).unwrap(),
            Version::new(n)
        );
    }
}

#[test]
fn a_version_in_a_record_comes_back() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        tag: Version,
        before: Option<Version>,
    }
    let record = Record {
        tag: Version::new(7),
        before: None,
    };
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(text, r#"{"tag":7,"before":null}"#);
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
}

#[test]
fn a_fencing_token_is_written_as_its_number() {
    for n in [0, 1, 1 << 53, u64::MAX] {
        let text = serde_json::to_string(&FencingToken::new(n)).unwrap();
        assert_eq!(text, n.to_string());
        let read = serde_json::from_str::<FencingToken>(&text).unwrap();
        assert_eq!(read, FencingToken::new(n));
    }
    for wrong in [
        r#""7""#,
        "-1",
        "1.5",
        "18446744073709551616",
        "null",
        "[7]",
        "",
    ] {
        assert!(
            serde_json::from_str::<FencingToken>(wrong).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_no_version_is_refused() {
    for wrong in [
        r#""7""#,
        "-1",
        "1.5",
        "1.0",
        "18446744073709551616",
        "null",
        "true",
        "[7]",
        "{}",
        "",
    ] {
        let read = serde_json::from_str::<Version>(wrong);
        assert!(read.is_err(), "{wrong}: {read:?}");
    }
}

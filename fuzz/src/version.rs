//! What a text says as a version.

use latchwork::cell::Version;

/// Reads a version out of any text, and compares with what a version is. Returns whether it was
/// one.
pub(crate) fn read(data: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(data) else {
        return false;
    };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    let expected = match digits.parse::<u128>() {
        _ if !is_number => None,
        Ok(number) => u64::try_from(number).ok(),
        // Nothing but zeros, or more digits than these.
        Err(_) => digits.is_empty().then_some(0),
    };
    let read = text.parse::<Version>();
    assert_eq!(read.as_ref().ok().map(|v| v.get()), expected, "{text:?}");
    match read {
        Ok(version) => {
            assert_eq!(version.to_string().parse(), Ok(version));
            true
        }
        Err(error) => {
            let says_too_great = error.to_string().contains("out of range");
            assert_eq!(says_too_great, is_number, "{text:?}: {error}");
            false
        }
    }
}

//! Cells against a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::cells(data);
});

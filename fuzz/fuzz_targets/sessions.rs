//! Sessions of one table, against a reference lock manager.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::sessions(data);
});

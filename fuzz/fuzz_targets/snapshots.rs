//! Snapshots against all that the cells ever held.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::snapshots(data);
});

//! Guards, sets and sessions of one table at once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::mixed(data);
});

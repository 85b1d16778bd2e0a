//! A map against a reference that keeps all past states.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::map(data);
});

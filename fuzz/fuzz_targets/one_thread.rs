//! One thread against the reference.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::one_thread(data);
});

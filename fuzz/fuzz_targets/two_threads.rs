//! Two threads against an oracle.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::two_threads(data);
});

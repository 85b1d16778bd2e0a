//! Cells and transactions of threads that end, with destructors that use cells.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::endings(data);
});

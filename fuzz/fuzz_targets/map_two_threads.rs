//! A map of two threads, whose calls must have an order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::map_two_threads(data);
});

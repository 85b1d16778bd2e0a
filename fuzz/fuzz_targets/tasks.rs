//! Tasks that wait for a table's keys, against a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::tasks(data);
});

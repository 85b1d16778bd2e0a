//! The state machine of a lease, in a world with faults.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    latchwork_fuzz::leases(data);
});

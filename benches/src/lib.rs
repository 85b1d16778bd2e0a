//! Workloads and peers for the benchmarks of `latchwork`.

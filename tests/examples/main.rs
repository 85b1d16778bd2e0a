//! The examples as their readers meet them.

mod flights;
mod flights_audit;
mod small;
mod support;

#[path = "../../examples/flights/audit.rs"]
mod audit;
#[allow(dead_code)]
#[path = "../../examples/flights/data.rs"]
mod data;
#[allow(dead_code)]
#[path = "../../examples/flights/measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "../../examples/flights/strategy/mod.rs"]
mod strategy;
#[allow(dead_code)]
#[path = "../../examples/flights/totals.rs"]
mod totals;
#[path = "../../examples/flights/work.rs"]
mod work;

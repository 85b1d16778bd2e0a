//! Memory for nodes: free lists of each thread, above slabs of cache lines that threads share.

mod node_pool;
mod slab;

pub(crate) use node_pool::Pool;
pub(super) use node_pool::{NodePool, Shape};

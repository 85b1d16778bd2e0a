//! The domain of cells: its epoch, and the slots of its threads.
//!
//! A checker has one for each execution. Under loom a model chooses between the epochs (models of
//! reclamation) and a grace period that ends with the execution (exhaustive models of the layers
//! above), which has no domain.

use super::epoch::Epoch;
use super::registry::Registry;
use super::rescue::Rescue;
use crate::sync::{constructor, global};

pub(super) struct Domain {
    pub(super) epoch: Epoch,
    pub(super) registry: Registry,
    pub(super) rescue: Rescue,
}

impl Domain {
    constructor! {
        fn new() -> Self {
            Domain {
                epoch: Epoch::new(),
                registry: Registry::new(),
                rescue: Rescue::new(),
            }
        }
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
pub(super) use checked::{Handle, domain};
#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
pub(super) use real::domain;

#[cfg(latchwork_loom)]
pub(crate) use checked::{reclaim_in_model, reclaim_with_dormant_slots_in_model};

#[cfg(not(any(latchwork_loom, latchwork_shuttle)))]
mod real {
    use super::*;

    global! {
        const DOMAIN: Domain = Domain::new();
    }

    #[inline(always)]
    pub(in crate::reclaim) fn domain() -> &'static Domain {
        &DOMAIN
    }
}

#[cfg(any(latchwork_loom, latchwork_shuttle))]
mod checked {
    use std::sync::{Arc, OnceLock};

    use super::*;

    /// Each thread has one: the last thread of an execution ends after the statics.
    pub(in crate::reclaim) type Handle = Arc<Domain>;

    global! {
        static DOMAIN: OnceLock<Handle> = OnceLock::new();
    }

    fn make() -> &'static Handle {
        DOMAIN.get_or_init(|| Arc::new(Domain::new()))
    }

    /// Reclaims inside this execution of a model. Before the first use of a cell.
    #[cfg(latchwork_loom)]
    pub(crate) fn reclaim_in_model() {
        make();
    }

    /// The same, and idle slots leave the scans.
    #[cfg(latchwork_loom)]
    pub(crate) fn reclaim_with_dormant_slots_in_model() {
        make().registry.count_as_large();
    }

    /// The domain, if this execution reclaims.
    pub(in crate::reclaim) fn domain() -> Option<&'static Handle> {
        match cfg!(latchwork_loom) {
            true => DOMAIN.get(),
            false => {
                let domain = make();
                domain.registry.count_as_large();
                Some(domain)
            }
        }
    }
}

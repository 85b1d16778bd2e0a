//! The domain of cells: its epoch, and the slots of its threads.
//!
//! Under loom a model chooses between the epochs (models of reclamation) and a grace period that
//! ends with the execution (exhaustive models of the layers above), which has no domain.

use super::epoch::Epoch;
use super::registry::Registry;
use super::rescue::Rescue;
use crate::sync::global;

pub(super) struct Domain {
    pub(super) epoch: Epoch,
    pub(super) registry: Registry,
    pub(super) rescue: Rescue,
}

#[cfg(not(latchwork_loom))]
pub(super) use one::domain;
#[cfg(latchwork_loom)]
pub(crate) use one_for_each_execution::reclaim_in_model;
#[cfg(latchwork_loom)]
pub(super) use one_for_each_execution::{Handle, domain};

#[cfg(not(latchwork_loom))]
mod one {
    use super::*;

    global! {
        const DOMAIN: Domain = Domain {
            epoch: Epoch::new(),
            registry: Registry::new(),
            rescue: Rescue::new(),
        };
    }

    #[inline(always)]
    pub(in crate::reclaim) fn domain() -> &'static Domain {
        &DOMAIN
    }
}

#[cfg(latchwork_loom)]
mod one_for_each_execution {
    use std::sync::{Arc, OnceLock};

    use super::*;

    /// A domain of which a thread has a part. The last thread of an execution ends after the
    /// statics.
    pub(in crate::reclaim) type Handle = Arc<Domain>;

    global! {
        static DOMAIN: OnceLock<Handle> = OnceLock::new();
    }

    /// Reclaims inside this execution of a model. Before the first use of a cell.
    pub(crate) fn reclaim_in_model() {
        DOMAIN.get_or_init(|| {
            Arc::new(Domain {
                epoch: Epoch::new(),
                registry: Registry::new(),
                rescue: Rescue::new(),
            })
        });
    }

    /// The domain, if this execution reclaims.
    pub(in crate::reclaim) fn domain() -> Option<&'static Handle> {
        DOMAIN.get()
    }
}

//! What does it cost to change several cells at once, and to see several at once?

pub(super) mod alone;
pub(super) mod beside;

const STM: &str = "`stm`";
const ORDERED: &str = "as many ordered `parking_lot` mutexes";

//! The clock.

use std::time::Instant;

/// Wall time as the engine counts it; the runtime's clock, so that tests may pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! What tests of RTP share.

use std::time::Instant;

/// When a test begins. Where that lies does not matter; no later time is read from a clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a test may begin at any time, and there is no other way to make one"
)]
pub(super) fn noon() -> Instant {
    Instant::now()
}

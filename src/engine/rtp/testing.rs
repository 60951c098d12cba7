//! What tests of RTP, and of what is built on it, share.

use std::time::Instant;

/// When a test begins. Where that lies does not matter; no later time is read from a clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a test may begin at any time, and there is no other way to make one"
)]
pub(crate) fn noon() -> Instant {
    Instant::now()
}

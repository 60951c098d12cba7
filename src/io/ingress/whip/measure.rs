//! Temporary.
use super::refused::Refused;
pub(super) fn describe() {}
pub(super) fn refused(reason: Refused) {
    tracing::info!(?reason, "refused");
}

//! Temporary.
/// Temporary.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    BadSdp,
    TooManyLines,
    NoAudio,
    NoCommonCodec,
    NoFingerprint,
    NoIce,
    Busy,
    Draining,
    NoRoute,
    NeverConnected,
    NoKeys,
    RestartUnderWay,
    NoSession,
}

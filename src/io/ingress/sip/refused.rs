//! Why SIP requests are turned away.

use super::normalise::Reason;

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// It was no message that we could take.
    Malformed(Reason),
    /// Its sender is not in `sip.allow`.
    NotAllowed,
    /// It brought no password yet, or a wrong one.
    Unauthorised,
    /// More of them than we take.
    Flood,
    /// More connections than `sip.connections`.
    TooManyConnections,
    /// It belongs to a call that does not exist.
    NoSuchCall,
    /// It came after its successor.
    OldSequence,
    /// It came before its predecessor was settled.
    TooEarly,
    /// It confirms something that we never said.
    BadRAck,
    /// It requires an extension that we do not have.
    Extension,
    /// Its session interval is too short.
    Interval,
    /// Its body is no SDP.
    MediaType,
    /// Its SDP cannot be read.
    BadSdp,
    /// Its SDP has nothing that we can or may speak.
    NoCommonMedia,
    /// The stack could make no dialog of it.
    NoDialog,
    /// No RTP port was free.
    NoPort,
}

impl Refused {
    const OWN: [Self; 15] = [
        Self::NotAllowed,
        Self::Unauthorised,
        Self::Flood,
        Self::TooManyConnections,
        Self::NoSuchCall,
        Self::OldSequence,
        Self::TooEarly,
        Self::BadRAck,
        Self::Extension,
        Self::Interval,
        Self::MediaType,
        Self::BadSdp,
        Self::NoCommonMedia,
        Self::NoDialog,
        Self::NoPort,
    ];

    /// Every reason, so that each is a series from the start.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let malformed = Reason::ALL.into_iter().map(Self::Malformed);
        Self::OWN.into_iter().chain(malformed)
    }

    /// The metric label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason.label(),
            Self::NotAllowed => "not_allowed",
            Self::Unauthorised => "unauthorised",
            Self::Flood => "flood",
            Self::TooManyConnections => "too_many_connections",
            Self::NoSuchCall => "no_such_call",
            Self::OldSequence => "old_sequence",
            Self::TooEarly => "too_early",
            Self::BadRAck => "bad_rack",
            Self::Extension => "extension",
            Self::Interval => "interval",
            Self::MediaType => "media_type",
            Self::BadSdp => "bad_sdp",
            Self::NoCommonMedia => "no_common_media",
            Self::NoDialog => "no_dialog",
            Self::NoPort => "no_port",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_a_place_in_the_list() {
        let mut names: Vec<&str> = Refused::all().map(Refused::label).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refused::all().count());
        let is_label = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(names.iter().all(is_label));
    }
}

//! Why SIP requests are turned away.

labels! {
    /// Why a message that can be read was turned away; of others [`super::normalise::Reason`] tells.
    pub(super) enum Refused {
        /// Its sender is not in `sip.allow`.
        NotAllowed => "not_allowed",
        /// It brought no password yet, or a wrong one.
        Unauthorised => "unauthorised",
        /// More of them than we take.
        Flood => "flood",
        /// More connections than `sip.connections`.
        TooManyConnections => "too_many_connections",
        /// It belongs to a call that does not exist.
        NoSuchCall => "no_such_call",
        /// It came after its successor.
        OldSequence => "old_sequence",
        /// It came before its predecessor was settled.
        TooEarly => "too_early",
        /// It confirms something that we never said.
        BadRAck => "bad_rack",
        /// It requires an extension that we do not have.
        Extension => "extension",
        /// Its session interval is too short.
        Interval => "interval",
        /// Its body is no SDP.
        MediaType => "media_type",
        /// Its SDP cannot be read.
        BadSdp => "bad_sdp",
        /// Its SDP has nothing that we can or may speak.
        NoCommonMedia => "no_common_media",
        /// The stack could make no dialog of it.
        NoDialog => "no_dialog",
        /// No RTP port was free.
        NoPort => "no_port",
    }
}

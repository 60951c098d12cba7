//! How a negotiation ends: in an [`Agreement`] or in a [`Refusal`].

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::presence::Patience;
use crate::engine::rtp::session::Setup;

/// What both sides do from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The one codec.
    pub codec: Codec,
    /// Its numbers.
    pub payload_type: PayloadType,
    /// The numbers of telephone keys (RFC 4733) at the codec's clock, if the peer has any.
    pub telephone_event: Option<PayloadType>,
    /// The number under which the peer may send comfort noise (RFC 3389) although no answer of ours names it.
    pub comfort_noise: Option<u8>,
    /// The length of the packets that we send: 10 to 60 ms, a multiple of 10.
    pub packet_time: Duration,
    /// Bits per second that the peer wants of Opus at most, if it says so (`maxaveragebitrate` of RFC 7587 §6.1).
    pub max_average_bitrate: Option<u32>,
    /// Where our packets go; `None` while the peer is nowhere (old-style hold, or its line is closed).
    pub remote_rtp: Option<SocketAddr>,
    /// Where our reports go; `None` if there is no such place.
    pub remote_rtcp: Option<SocketAddr>,
    /// Reports share the port of RTP, ours and theirs (RFC 5761).
    pub rtcp_mux: bool,
    /// Who may speak. `send` is false while the peer holds us.
    pub direction: Direction,
    /// How packets are encrypted.
    pub keying: Keying,
}

impl Agreement {
    /// Whether the peer holds us: it wants none of our voice, and itself may send music or nothing. Timers that wait
    /// for its packets or its voice must wait too.
    pub const fn is_held(&self) -> bool {
        !self.direction.send
    }

    /// What a session needs to know to do it: what was agreed, the keys that this led to, and what is ours alone to say.
    pub fn setup(
        &self,
        keys: Option<(SrtpKey, SrtpKey)>,
        patience: Patience,
        learning: Duration,
        cname: String,
        opus_complexity: u8,
    ) -> Setup {
        Setup {
            codec: self.codec,
            payload_type: self.payload_type.send,
            own_payload_type: self.payload_type.receive,
            telephone_event: self.telephone_event.map(|number| number.receive),
            comfort_noise: self.comfort_noise,
            packet_time: self.packet_time,
            max_average_bitrate: self.max_average_bitrate,
            remote_rtp: self.remote_rtp,
            remote_rtcp: self.remote_rtcp,
            send: self.direction.send,
            receive: self.direction.receive,
            keys,
            patience,
            learning,
            cname,
            opus_complexity,
        }
    }
}

/// The numbers of a format. They differ only where the peer answers our offer with a number of its own
/// (RFC 3264 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType {
    /// The peer's number, which our packets carry.
    pub send: u8,
    /// Our number, which the peer's packets carry.
    pub receive: u8,
}

impl PayloadType {
    /// One number for both ways.
    pub(super) const fn same(number: u8) -> Self {
        Self {
            send: number,
            receive: number,
        }
    }
}

/// Who may speak, from the point of view of whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// We may.
    pub send: bool,
    /// The peer may.
    pub receive: bool,
}

impl Direction {
    /// Both may.
    pub const BOTH: Self = Self {
        send: true,
        receive: true,
    };
    /// Nobody may.
    pub const NEITHER: Self = Self {
        send: false,
        receive: false,
    };

    /// The attribute (RFC 8866 §6.7).
    pub const fn attribute(self) -> &'static str {
        match (self.send, self.receive) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }

    /// Reads the attribute's name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        [(true, true), (true, false), (false, true), (false, false)]
            .map(|(send, receive)| Self { send, receive })
            .into_iter()
            .find(|direction| direction.attribute().eq_ignore_ascii_case(name))
    }

    /// The same from the other side.
    pub(super) const fn reversed(self) -> Self {
        Self {
            send: self.receive,
            receive: self.send,
        }
    }
}

/// How packets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keying {
    /// They are not.
    None,
    /// With keys written into the descriptions (RFC 4568). A context whose key has not changed must be kept: the
    /// roll-over counter in it is not negotiated again.
    Sdes {
        /// For packets that we send.
        ours: SrtpKey,
        /// For packets that the peer sends; the profile is the same.
        theirs: SrtpKey,
    },
    /// With keys that a DTLS handshake gives (RFC 5764). As long as role and fingerprint are the same, so is the
    /// association.
    Dtls {
        /// Who begins.
        role: DtlsRole,
        /// The certificate that the peer must show.
        fingerprint: Fingerprint,
    },
}

/// Why there is no agreement. The SIP layer answers 488 (Not Acceptable Here), with [`Refusal::warning_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// No audio line that is open.
    #[error("no audio is offered")]
    NoAudio,
    /// Audio only over something that we do not speak.
    #[error("no audio over RTP is offered")]
    UnknownTransport,
    /// None of the formats is allowed here.
    #[error("no codec in common")]
    NoCommonCodec,
    /// Encryption is required here and not offered.
    #[error("encryption is required")]
    SecurityRequired,
    /// The peer insists on encryption, which is off here.
    #[error("encryption is off")]
    SecurityOff,
    /// The peer insists on encryption, and offers no suite, hash or role that we know.
    #[error("no key exchange in common")]
    NoCommonKeying,
    /// The address is missing, a host name or a multicast group. A name is refused rather than resolved: it would
    /// make every offer a way to have us look names up.
    #[error("no usable address is offered")]
    NoUsableAddress,
    /// The address is IPv6 and ours IPv4, or the other way round.
    #[error("the address is of another IP version")]
    OtherAddressFamily,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 8] = [
        Self::NoAudio,
        Self::UnknownTransport,
        Self::NoCommonCodec,
        Self::SecurityRequired,
        Self::SecurityOff,
        Self::NoCommonKeying,
        Self::NoUsableAddress,
        Self::OtherAddressFamily,
    ];

    /// The code of the `Warning` header (RFC 3261 §20.43).
    pub const fn warning_code(self) -> u16 {
        match self {
            Self::NoAudio => 304,
            Self::UnknownTransport => 302,
            Self::NoCommonCodec => 305,
            Self::SecurityRequired | Self::SecurityOff | Self::NoCommonKeying => 399,
            Self::NoUsableAddress => 301,
            Self::OtherAddressFamily => 300,
        }
    }
}

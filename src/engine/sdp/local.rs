//! What we can do, and what we have agreed so far: our half of every negotiation.

use std::net::IpAddr;
use std::time::Duration;

use crate::engine::media::codec::packet::Codec;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::rtp::key::MAX_KEY_AND_SALT;
use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::description::Description;

/// Our side of a leg. One for a call: between negotiations only [`Local::version`] and [`Local::current`] change.
#[derive(Clone, Debug)]
pub struct Local {
    /// The address that the peer sends to, which need not be one of this machine.
    pub address: IpAddr,
    /// The port there for RTP.
    pub rtp_port: u16,
    /// The port there for RTCP, where it does not share that of RTP.
    pub rtcp_port: u16,
    /// The codecs that may be used. Their order counts in our own offers only.
    pub codecs: Vec<Codec>,
    /// The length of our packets where the peer has no wish of its own: a multiple of 10 ms, usually 20 ms.
    pub packet_time: Duration,
    /// Whether packets may, or must, be encrypted.
    pub srtp: SrtpPolicy,
    /// Our certificate's, if keys may be agreed by DTLS.
    pub fingerprint: Option<Fingerprint>,
    /// Our keys, if they are agreed by SDES.
    pub sdes: SdesKeys,
    /// Names our session in `o=`. Below 2^63: some peers read it into a signed integer.
    pub session_id: u64,
    /// The version of our description in `o=`; raised by [`Local::number`].
    pub version: u64,
    /// What is in use, in a call that has been negotiated before.
    pub current: Option<Agreement>,
}

impl Local {
    /// Gives `ours` the next version if it says something that `last`, which we sent before, did not; else that of
    /// `last` (RFC 3264 §8).
    pub fn number(&mut self, ours: &mut Description, last: &Description) {
        if !ours.says_the_same_as(last) {
            self.version += 1;
        }
        ours.origin = Some(self.origin());
    }

    pub(super) fn origin(&self) -> String {
        let family = match self.address {
            IpAddr::V4(_) => "IP4",
            IpAddr::V6(_) => "IP6",
        };
        format!(
            "- {} {} IN {family} {}",
            self.session_id, self.version, self.address
        )
    }
}

/// Whether packets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpPolicy {
    /// Never; a peer that insists is refused.
    Off,
    /// Where the peer offers it, even if only as its best effort. Our own offers are plain: a peer that sent no offer
    /// is an old one, and many of those refuse RTP/SAVP.
    Optional,
    /// Always; a peer that does not is refused.
    Required,
}

/// Our keys for SDES: one for each profile, so that none is ever used under two ciphers, and the same for a whole call,
/// so that a new answer does not change the key of packets that are on their way.
#[derive(Clone, Debug)]
pub struct SdesKeys([SrtpKey; SrtpProfile::ALL.len()]);

impl SdesKeys {
    /// The random bytes that they are made of.
    pub const RANDOM_BYTES: usize = SrtpProfile::ALL.len() * MAX_KEY_AND_SALT;

    /// Keys from bytes that nobody can guess: from the operating system's generator, new for each call.
    pub fn new(random: &[u8; Self::RANDOM_BYTES]) -> Self {
        let mut position = 0;
        Self(SrtpProfile::ALL.map(|profile| {
            let bytes = &random[position..position + profile.key_bytes() + profile.salt_bytes()];
            position += MAX_KEY_AND_SALT;
            SrtpKey::new(profile, bytes).expect("there are as many bytes as the profile wants")
        }))
    }

    /// The key for one profile.
    pub fn key(&self, profile: SrtpProfile) -> SrtpKey {
        *self
            .0
            .iter()
            .find(|key| key.profile() == profile)
            .expect("there is a key for every profile")
    }
}

//! SRTP and SRTCP (RFC 3711, RFC 7714) over the contexts of the `rtc` crate, one per direction.
//!
//! The crate keeps state for each source it is *shown*, before it knows whether the packet is genuine, and for ever.
//! So a context here serves one source that has proved itself, and strangers are tried on a spare one that is thrown
//! away: forged packets can neither fill the memory nor spoil the replay window of a source that is yet to speak.
//!
//! The roll-over counter lives in the context. Whoever re-negotiates with unchanged keys must keep the context, or the
//! call goes deaf after its first 65,536 packets.

use std::collections::VecDeque;

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::crypto::providers::RingProvider;
use rtc::shared::error::Error;
use rtc::srtp::context::Context;
use rtc::srtp::option::srtcp_replay_protection;
use rtc::srtp::option::srtp_replay_protection;
use rtc::srtp::protection_profile::ProtectionProfile;

use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;

/// How far back a packet may come and still be told from a replay: 64 is the least RFC 3711 §3.3.2 allows, and more
/// than a second of audio.
const REPLAY_WINDOW: usize = 64;
/// Sources of one peer whose state is kept. Peers begin a new one on a re-INVITE or a transfer; the one unheard for
/// longest goes first.
const MAX_SOURCES: usize = 8;
/// Sources that may be tried on one spare context before it is thrown away: a new one costs some microseconds.
const MAX_TRIED: usize = 32;

/// Why a packet was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short, or no packet at all.
    Malformed,
    /// It has been here before, or is too old to tell.
    Replayed,
    /// It was not made with the peer's key, or was changed on its way.
    Forged,
}

/// The sending direction.
pub struct Protect {
    key: SrtpKey,
    context: Context,
}

impl Protect {
    /// Begins to send under `key`, with the roll-over counter at zero.
    pub fn new(key: SrtpKey) -> Self {
        Self {
            key,
            context: context(&key),
        }
    }

    /// The key it was made from.
    pub const fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// Encrypts a whole RTP packet; `None` if it is none, or if the key has served its 2⁴⁸ packets.
    pub fn rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.context.encrypt_rtp(packet).ok()
    }

    /// Encrypts a whole RTCP compound; `None` if it is none.
    pub fn rtcp(&mut self, compound: &[u8]) -> Option<BytesMut> {
        self.context.encrypt_rtcp(compound).ok()
    }
}

/// The receiving direction.
pub struct Unprotect {
    key: SrtpKey,
    /// Sources that have proved themselves, the one heard last at the front.
    sources: VecDeque<(u32, Context)>,
    spare: Spare,
}

/// Where packets of unknown sources are tried.
struct Spare {
    context: Context,
    tried: Vec<u32>,
}

/// The way through a context that RTP and RTCP do not share.
type Open = fn(&mut Context, &[u8]) -> Result<BytesMut, Error>;

impl Unprotect {
    /// Begins to receive under `key`, with the roll-over counter at zero.
    pub fn new(key: SrtpKey) -> Self {
        Self {
            key,
            sources: VecDeque::with_capacity(MAX_SOURCES),
            spare: Spare::new(&key),
        }
    }

    /// The key it was made from.
    pub const fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// The RTP packet inside a protected one.
    ///
    /// # Errors
    /// Everything that is not a new packet made with the key.
    pub fn rtp(&mut self, protected: &[u8]) -> Result<BytesMut, Refusal> {
        self.open(protected, 8, Context::decrypt_rtp)
    }

    /// The RTCP compound inside a protected one.
    ///
    /// # Errors
    /// Everything that is not a new compound made with the key.
    pub fn rtcp(&mut self, protected: &[u8]) -> Result<BytesMut, Refusal> {
        self.open(protected, 4, Context::decrypt_rtcp)
    }

    /// Opens a packet whose source is named at byte `at`.
    fn open(&mut self, protected: &[u8], at: usize, open: Open) -> Result<BytesMut, Refusal> {
        let ssrc = protected.get(at..).and_then(<[u8]>::first_chunk);
        let ssrc = u32::from_be_bytes(*ssrc.ok_or(Refusal::Malformed)?);
        if let Some(place) = self.sources.iter().position(|(known, _)| *known == ssrc) {
            if place != 0 {
                // A forged packet must not make a source look heard, or it could drive the others out.
                let (_, context) = &mut self.sources[place];
                let packet = open(context, protected).map_err(|error| refusal(&error))?;
                let heard = self.sources.remove(place);
                self.sources.extend(heard);
                self.sources.rotate_right(1);
                return Ok(packet);
            }
            return open(&mut self.sources[0].1, protected).map_err(|error| refusal(&error));
        }
        if self.spare.tried.contains(&ssrc) || self.spare.tried.len() == MAX_TRIED {
            self.spare = Spare::new(&self.key);
        }
        self.spare.tried.push(ssrc);
        let packet = open(&mut self.spare.context, protected).map_err(|error| refusal(&error))?;
        let proved = std::mem::replace(&mut self.spare, Spare::new(&self.key));
        self.sources.truncate(MAX_SOURCES - 1);
        self.sources.push_front((ssrc, proved.context));
        Ok(packet)
    }
}

impl Spare {
    fn new(key: &SrtpKey) -> Self {
        Self {
            context: context(key),
            tried: Vec::new(),
        }
    }
}

fn context(key: &SrtpKey) -> Context {
    let profile = match key.profile() {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    Context::new(
        key.key(),
        key.salt(),
        profile,
        Some(srtp_replay_protection(REPLAY_WINDOW)),
        Some(srtcp_replay_protection(REPLAY_WINDOW)),
        RingProvider::new().crypto(),
    )
    .expect("a key is as long as its profile wants, and the provider has every profile")
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::SrtpSsrcDuplicated(..) | Error::SrtcpSsrcDuplicated(..) => Refusal::Replayed,
        Error::RtpFailedToVerifyAuthTag
        | Error::RtcpFailedToVerifyAuthTag
        | Error::ErrFailedToVerifyAuthTag => Refusal::Forged,
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use hmac::Hmac;
    use hmac::Mac;
    use rtc::crypto::AeadAlgorithm;
    use rtc::crypto::StreamCipherAlgorithm;
    use sha1::Sha1;

    use super::*;
    use crate::engine::rtp::packet::HEADER_BYTES;

    /// The packet of libsrtp's published vectors: one RTP header, sixteen bytes of payload.
    const PLAIN: &str = "800f1234decafbadcafebabeabababababababababababababababab";
    const PLAIN_RTCP: &str = "81c8000bcafebabeabababababababababababababababab";

    #[test]
    fn aes_cm_makes_the_packets_of_libsrtp() {
        // The master key and salt of RFC 3711 §B.3.
        let key = key(
            SrtpProfile::AesCm128HmacSha1_80,
            "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
        );
        assert_sealed(
            key,
            "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
            "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
        );
    }

    #[test]
    fn aes_gcm_makes_the_packets_of_libsrtp() {
        let key = key(
            SrtpProfile::AeadAes128Gcm,
            "000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab",
        );
        assert_sealed(
            key,
            "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
            "81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001",
        );
    }

    #[test]
    fn the_session_keys_are_those_of_rfc_3711() {
        // Cipher key, cipher salt and authentication key as §B.3 derives them; encrypted by hand after §4.1.1, §4.2.
        let key = key(
            SrtpProfile::AesCm128HmacSha1_32,
            "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
        );
        let session_key = bytes("c61e7a93744f39ee10734afe3ff7a087");
        let session_salt = bytes("30cbbc08863d8c85d49db34a9ae1");
        let session_auth = bytes("cebe321f6ff7716b6fd4ab49af256a156d38baa4");
        let plain = bytes(PLAIN);

        let mut by_hand = plain.clone();
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&session_salt);
        xor(&mut counter[4..8], &plain[8..12]);
        xor(&mut counter[12..14], &plain[2..4]);
        apply(
            StreamCipherAlgorithm::Aes128Ctr,
            &session_key,
            &counter,
            &mut by_hand[HEADER_BYTES..],
        );
        let mut hmac = Hmac::<Sha1>::new_from_slice(&session_auth).expect("a key");
        hmac.update(&by_hand);
        hmac.update(&0_u32.to_be_bytes());
        by_hand.extend_from_slice(&hmac.finalize().into_bytes()[..4]);

        let sealed = Protect::new(key).rtp(&plain).expect("a packet");
        assert_eq!(sealed[..], by_hand[..]);
    }

    #[test]
    fn aes_256_gcm_is_that_of_rfc_7714() {
        // No vector from the master key on is published: the derivation of RFC 6188 and the initialisation vector of
        // RFC 7714 §8.1 by hand.
        let material: Vec<u8> = (0..44).collect();
        let key = SrtpKey::new(SrtpProfile::AeadAes256Gcm, &material).expect("44 bytes");
        let derive = |label: u8, into: &mut [u8]| {
            let mut counter = [0; 16];
            counter[..12].copy_from_slice(key.salt());
            counter[7] ^= label;
            apply(StreamCipherAlgorithm::Aes256Ctr, key.key(), &counter, into);
        };
        let (mut session_key, mut nonce) = ([0; 32], [0; 12]);
        derive(0, &mut session_key);
        derive(2, &mut nonce);
        let plain = bytes(PLAIN);
        xor(&mut nonce[2..6], &plain[8..12]);
        xor(&mut nonce[10..12], &plain[2..4]);
        let provider = RingProvider::new();
        let mut aead = provider
            .crypto()
            .new_aead(AeadAlgorithm::Aes256Gcm, &session_key)
            .expect("a key");
        let mut by_hand = plain.clone();
        let (header, payload) = by_hand.split_at_mut(HEADER_BYTES);
        let mut tag = [0; 16];
        aead.seal_in_place(&nonce, header, payload, &mut tag)
            .expect("sealed");
        by_hand.extend_from_slice(&tag);

        let sealed = Protect::new(key).rtp(&plain).expect("a packet");
        assert_eq!(sealed[..], by_hand[..]);
    }

    #[test]
    fn four_roll_overs_are_crossed_under_every_profile() {
        const STEP: u16 = 997;
        for profile in SrtpProfile::ALL {
            let (mut protect, mut unprotect) = pair(profile);
            let mut sequence = 65_000_u16;
            // All but every 997th packet are left out: quick, and the counter still turns over.
            for _ in 0..4 * 65_536 / u32::from(STEP) {
                let packet = packet(7, sequence);
                let sealed = protect.rtp(&packet).expect("a packet");
                assert_eq!(unprotect.rtp(&sealed).as_deref(), Ok(&packet[..]));
                sequence = sequence.wrapping_add(STEP);
            }
        }
    }

    #[test]
    fn a_late_packet_from_before_the_roll_over_is_let_in() {
        let (mut protect, mut unprotect) = pair(SrtpProfile::AesCm128HmacSha1_80);
        let mut sealed = |sequence| protect.rtp(&packet(7, sequence)).expect("a packet");
        let packets: Vec<BytesMut> = [65_533, 65_534, 65_535, 0, 1, 2].map(&mut sealed).into();
        for place in [0, 3, 1, 4, 2, 5] {
            assert!(unprotect.rtp(&packets[place]).is_ok(), "{place}");
        }
    }

    #[test]
    fn a_replay_is_refused_for_media_and_control() {
        for profile in SrtpProfile::ALL {
            let (mut protect, mut unprotect) = pair(profile);
            let media = protect.rtp(&packet(7, 1)).expect("a packet");
            let control = protect.rtcp(&bytes(PLAIN_RTCP)).expect("a compound");
            assert!(unprotect.rtp(&media).is_ok());
            assert!(unprotect.rtcp(&control).is_ok());
            assert_eq!(unprotect.rtp(&media), Err(Refusal::Replayed));
            assert_eq!(unprotect.rtcp(&control), Err(Refusal::Replayed));
        }
    }

    #[test]
    fn a_changed_byte_and_a_wrong_key_are_forgery_and_a_stump_is_malformed() {
        for profile in SrtpProfile::ALL {
            let (mut protect, mut unprotect) = pair(profile);
            let good = protect.rtp(&packet(7, 1)).expect("a packet");
            let mut bad = good.clone();
            bad[HEADER_BYTES] ^= 1;
            assert_eq!(unprotect.rtp(&bad), Err(Refusal::Forged));
            let other = SrtpKey::new(
                profile,
                &vec![9; profile.key_bytes() + profile.salt_bytes()],
            );
            let mut other = Unprotect::new(other.expect("a key"));
            assert_eq!(other.rtp(&good), Err(Refusal::Forged));
            assert_eq!(unprotect.rtp(&good[..11]), Err(Refusal::Malformed));
            for stump in 12..good.len() {
                assert!(unprotect.rtp(&good[..stump]).is_err());
            }
            assert!(unprotect.rtp(&good).is_ok());
        }
    }

    #[test]
    fn forged_packets_neither_fill_the_memory_nor_keep_the_peer_out() {
        let (mut protect, mut unprotect) = pair(SrtpProfile::AeadAes128Gcm);
        // They even name the source and a sequence that would push the true one out of the replay window.
        for ssrc in 0..1_000 {
            let mut forged = packet(ssrc, 20_000);
            forged.extend_from_slice(&[0; 16]);
            assert_eq!(unprotect.rtp(&forged), Err(Refusal::Forged));
        }
        assert!(unprotect.sources.is_empty());
        assert!(unprotect.spare.tried.len() <= MAX_TRIED);
        let mut forged = packet(7, 20_000);
        forged.extend_from_slice(&[0; 16]);
        assert_eq!(unprotect.rtp(&forged), Err(Refusal::Forged));
        let sealed = protect.rtp(&packet(7, 5)).expect("a packet");
        assert!(unprotect.rtp(&sealed).is_ok());
    }

    #[test]
    fn only_so_many_sources_of_one_peer_are_kept() {
        let (mut protect, mut unprotect) = pair(SrtpProfile::AesCm128HmacSha1_32);
        for ssrc in 0..20 {
            let sealed = protect.rtp(&packet(ssrc, 5)).expect("a packet");
            assert!(unprotect.rtp(&sealed).is_ok());
        }
        assert_eq!(unprotect.sources.len(), MAX_SOURCES);
    }

    /// Seals [`PLAIN`] and [`PLAIN_RTCP`] into these bytes, and opens them again.
    fn assert_sealed(key: SrtpKey, sealed: &str, sealed_rtcp: &str) {
        let mut protect = Protect::new(key);
        let mut unprotect = Unprotect::new(key);
        let packet = protect.rtp(&bytes(PLAIN)).expect("a packet");
        assert_eq!(packet[..], bytes(sealed)[..]);
        assert_eq!(unprotect.rtp(&packet).as_deref(), Ok(&bytes(PLAIN)[..]));
        let compound = protect.rtcp(&bytes(PLAIN_RTCP)).expect("a compound");
        assert_eq!(compound[..], bytes(sealed_rtcp)[..]);
        assert_eq!(
            unprotect.rtcp(&compound).as_deref(),
            Ok(&bytes(PLAIN_RTCP)[..])
        );
    }

    fn pair(profile: SrtpProfile) -> (Protect, Unprotect) {
        let material: Vec<u8> = (0..profile.key_bytes() + profile.salt_bytes())
            .map(|byte| byte as u8)
            .collect();
        let key = SrtpKey::new(profile, &material).expect("as long as the profile wants");
        (Protect::new(key), Unprotect::new(key))
    }

    fn key(profile: SrtpProfile, hex: &str) -> SrtpKey {
        SrtpKey::new(profile, &bytes(hex)).expect("as long as the profile wants")
    }

    fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = bytes(PLAIN);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        packet
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect()
    }

    fn xor(into: &mut [u8], with: &[u8]) {
        for (byte, other) in into.iter_mut().zip(with) {
            *byte ^= other;
        }
    }

    fn apply(algorithm: StreamCipherAlgorithm, key: &[u8], counter: &[u8], to: &mut [u8]) {
        let provider = RingProvider::new();
        let mut cipher = provider
            .crypto()
            .new_stream_cipher(algorithm, key)
            .expect("a key");
        cipher.apply_keystream(counter, to).expect("encrypted");
    }
}

//! A leg's side of every offer and answer: what we said last, and what was agreed.

use std::net::IpAddr;
use std::time::Duration;

use crate::config;
use crate::engine::media::codec::packet::Codec;
use crate::engine::media::frame::SampleRate;
use crate::engine::sdp;
use crate::engine::sdp::agreement::Agreement;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::description::Description;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SdesKeys;
use crate::engine::sdp::local::SrtpPolicy;
use crate::io::ingress::sip::Shared;
use crate::io::ingress::sip::refused::Refused;

/// What our packets are long where nobody says otherwise (RFC 3551 §4.2).
const PACKET_TIME: Duration = Duration::from_millis(20);
/// Session ids stay below 2^62, for peers that read them into signed integers.
const SESSION_ID_MASK: u64 = (1 << 62) - 1;

/// A leg's side of every offer and answer.
pub(in crate::io::ingress::sip) struct Negotiation {
    local: Local,
    /// What we sent last.
    last: Option<Description>,
    /// Our offer, as long as it is not answered.
    offered: Option<Description>,
    rate: SampleRate,
}

impl Negotiation {
    /// Before anything was said. The ports are not known yet.
    pub(in crate::io::ingress::sip) fn new(shared: &Shared, address: IpAddr) -> Self {
        /// Stands for a port in descriptions that nobody will read.
        const ANY_PORT: u16 = 9;
        Self {
            local: Local {
                address,
                rtp_port: ANY_PORT,
                rtcp_port: ANY_PORT,
                codecs: shared.rtp.codecs.clone(),
                packet_time: PACKET_TIME,
                srtp: match shared.rtp.srtp {
                    config::SrtpPolicy::Off => SrtpPolicy::Off,
                    config::SrtpPolicy::Optional => SrtpPolicy::Optional,
                    config::SrtpPolicy::Required => SrtpPolicy::Required,
                },
                fingerprint: Some(shared.identity.fingerprint()),
                sdes: new_keys(),
                session_id: rand::random::<u64>() & SESSION_ID_MASK,
                version: 1,
                current: None,
            },
            last: None,
            offered: None,
            rate: usual_rate(&shared.rtp.codecs),
        }
    }

    /// The ports of the leg.
    pub(in crate::io::ingress::sip) fn set_ports(&mut self, rtp: u16, rtcp: u16) {
        self.local.rtp_port = rtp;
        self.local.rtcp_port = rtcp;
    }

    /// The rate of the codec that was agreed first; until then that of what we would offer.
    pub(in crate::io::ingress::sip) const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Looks at an offer without taking it: can it be answered, and at which rate?
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::io::ingress::sip) fn rehearse(&mut self, offer: &[u8]) -> Result<(), Refused> {
        let offer = parse(offer)?;
        let answer = sdp::answer::answer(&self.local, &offer).map_err(no_common_media)?;
        self.rate = answer.agreement.codec.sample_rate();
        Ok(())
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// Why it cannot be answered; what was agreed before still stands.
    pub(in crate::io::ingress::sip) fn answer(
        &mut self,
        offer: &[u8],
    ) -> Result<(Vec<u8>, Agreement), Refused> {
        let offer = parse(offer)?;
        let answer = sdp::answer::answer(&self.local, &offer).map_err(no_common_media)?;
        let description = self.send(answer.description);
        self.agree(&answer.agreement);
        Ok((description, answer.agreement))
    }

    /// Makes an offer, whose answer is to be given to [`Negotiation::accept`].
    pub(in crate::io::ingress::sip) fn offer(&mut self) -> Vec<u8> {
        let mut local = self.local.clone();
        if self.local.current.is_none() {
            // The call's rate is settled before the answer is here, so only codecs of that rate are offered.
            local
                .codecs
                .retain(|codec| codec.sample_rate() == self.rate);
        }
        let offer = sdp::offer::offer(&local, self.last.as_ref());
        let written = self.send(offer);
        self.offered = self.last.clone();
        written
    }

    /// Our offer was refused: what was agreed before still stands.
    pub(in crate::io::ingress::sip) fn withdraw(&mut self) {
        self.offered = None;
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(in crate::io::ingress::sip) fn accept(
        &mut self,
        answer: &[u8],
    ) -> Result<Agreement, Refused> {
        let offered = self.offered.take().ok_or(Refused::BadSdp)?;
        let answer = parse(answer)?;
        let agreement =
            sdp::offer::accept(&self.local, &offered, &answer).map_err(no_common_media)?;
        self.agree(&agreement);
        Ok(agreement)
    }

    fn agree(&mut self, agreement: &Agreement) {
        let had_keys = self
            .local
            .current
            .as_ref()
            .is_some_and(|current| matches!(current.keying, Keying::Sdes { .. }));
        // A key that is given up is never taken up again: its packets would be counted from the start once more.
        if had_keys && !matches!(agreement.keying, Keying::Sdes { .. }) {
            self.local.sdes = new_keys();
        }
        self.local.current = Some(agreement.clone());
    }

    /// Numbers what we are about to send, and remembers it.
    fn send(&mut self, mut description: Description) -> Vec<u8> {
        if let Some(last) = &self.last {
            self.local.number(&mut description, last);
        }
        let written = description.to_string().into_bytes();
        self.last = Some(description);
        written
    }
}

/// The rate of a call whose caller leaves the offer to us: the telephone's, unless nothing of that rate is allowed.
fn usual_rate(allowed: &[Codec]) -> SampleRate {
    allowed
        .iter()
        .map(|codec| codec.sample_rate())
        .min()
        .unwrap_or(SampleRate::HZ_8000)
}

fn new_keys() -> SdesKeys {
    let mut random = [0; SdesKeys::RANDOM_BYTES];
    rand::fill(&mut random[..]);
    SdesKeys::new(&random)
}

fn parse(body: &[u8]) -> Result<Description, Refused> {
    Description::parse(body).map_err(|error| {
        tracing::debug!(?error, "an SDP body cannot be read");
        Refused::BadSdp
    })
}

fn no_common_media(refusal: sdp::agreement::Refusal) -> Refused {
    tracing::debug!(%refusal, "an SDP body cannot be agreed with");
    Refused::NoCommonMedia
}

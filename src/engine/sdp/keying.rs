//! Whether and how packets are encrypted: the policy against what the peer says.
//!
//! Keys in the description go before a handshake where a line has both: they are settled with the answer, while a
//! handshake may still fail in a call that has been answered.

use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::rtp::key::SrtpProfile;
use crate::engine::sdp::agreement::Keying;
use crate::engine::sdp::agreement::Refusal;
use crate::engine::sdp::crypto::Crypto;
use crate::engine::sdp::description::Attribute;
use crate::engine::sdp::dtls;
use crate::engine::sdp::dtls::Setup;
use crate::engine::sdp::local::Local;
use crate::engine::sdp::local::SrtpPolicy;
use crate::engine::sdp::stream::Stream;
use crate::engine::sdp::stream::Transport;

/// What is agreed, and the attributes that say so.
pub(super) struct Terms {
    pub(super) keying: Keying,
    pub(super) attributes: Vec<Attribute>,
}

/// Answers what a line offers.
pub(super) fn answer(
    local: &Local,
    offered: &Stream<'_>,
    transport: Transport,
) -> Result<Terms, Refusal> {
    let plain = transport == Transport::Plain;
    match local.srtp {
        SrtpPolicy::Off if plain => return Ok(Terms::NONE),
        SrtpPolicy::Off => return Err(Refusal::SecurityOff),
        SrtpPolicy::Optional | SrtpPolicy::Required => {}
    }
    let by_description = (transport != Transport::Dtls)
        .then(|| answer_sdes(local, offered))
        .flatten();
    match by_description.or_else(|| answer_dtls(local, offered)) {
        Some(terms) => Ok(terms),
        None if !plain => Err(Refusal::NoCommonKeying),
        None if local.srtp == SrtpPolicy::Required => Err(Refusal::SecurityRequired),
        None => Ok(Terms::NONE),
    }
}

/// What our own offer says, and the protocol of its line.
pub(super) fn offer(local: &Local) -> (&'static str, Vec<Attribute>) {
    let keying = local.current.as_ref().map(|current| current.keying);
    match (keying, local.fingerprint) {
        // What is encrypted stays so, with the key that is in use.
        (Some(Keying::Sdes { ours, .. }), _) => {
            ("RTP/SAVP", vec![Crypto { tag: 1, key: ours }.attribute()])
        }
        // RFC 8842: an offer leaves the choice of roles, even where there is an association.
        (Some(Keying::Dtls { .. }), Some(fingerprint)) => (
            "UDP/TLS/RTP/SAVP",
            dtls_attributes(fingerprint, Setup::ActiveOrPassive),
        ),
        (Some(Keying::Dtls { .. } | Keying::None) | None, _) => match local.srtp {
            SrtpPolicy::Off | SrtpPolicy::Optional => ("RTP/AVP", Vec::new()),
            SrtpPolicy::Required => ("RTP/SAVP", every_crypto(local)),
        },
    }
}

/// Takes the answer to our offer.
pub(super) fn accept(
    local: &Local,
    ours: &Stream<'_>,
    theirs: &Stream<'_>,
) -> Result<Keying, Refusal> {
    let keying = accept_sdes(ours, theirs).or_else(|| accept_dtls(ours, theirs));
    if let Some(keying) = keying {
        return Ok(keying);
    }
    let plain = |stream: &Stream<'_>| stream.transport() == Some(Transport::Plain);
    match local.srtp {
        _ if !plain(ours) || !plain(theirs) => Err(Refusal::NoCommonKeying),
        SrtpPolicy::Required => Err(Refusal::SecurityRequired),
        SrtpPolicy::Off | SrtpPolicy::Optional => Ok(Keying::None),
    }
}

impl Terms {
    const NONE: Self = Self {
        keying: Keying::None,
        attributes: Vec::new(),
    };
}

fn answer_sdes(local: &Local, offered: &Stream<'_>) -> Option<Terms> {
    let current = local.current.as_ref().map(|current| current.keying);
    let profile_in_use = match current {
        Some(Keying::Sdes { ours, .. }) => Some(ours.profile()),
        Some(Keying::Dtls { .. } | Keying::None) | None => None,
    };
    let in_use = offered
        .cryptos()
        .find(|crypto| Some(crypto.key.profile()) == profile_in_use);
    let theirs = in_use.or_else(|| offered.cryptos().next())?;
    let ours = local.sdes.key(theirs.key.profile());
    Some(Terms {
        keying: Keying::Sdes {
            ours,
            theirs: theirs.key,
        },
        attributes: vec![
            Crypto {
                tag: theirs.tag,
                key: ours,
            }
            .attribute(),
        ],
    })
}

fn answer_dtls(local: &Local, offered: &Stream<'_>) -> Option<Terms> {
    let ours = local.fingerprint?;
    let theirs = offered.fingerprint()?;
    // Without the attribute, the offerer begins (RFC 4145 §4).
    let role = match offered.setup().unwrap_or(Setup::Active) {
        Setup::Active => DtlsRole::Server,
        Setup::Passive => DtlsRole::Client,
        Setup::ActiveOrPassive => free_role(local, theirs),
        Setup::Nobody => return None,
    };
    Some(Terms {
        keying: Keying::Dtls {
            role,
            fingerprint: theirs,
        },
        attributes: dtls_attributes(ours, Setup::of(role)),
    })
}

/// The role that we take where the choice is ours.
///
/// In an association that exists, the one that we have (RFC 8842). Else we begin, as RFC 5763 §5 advises and PBXes
/// do: the handshake runs while the answer is still on its way, and what telephones meet daily works best. The price:
/// a peer behind a NAT whose address in the description is a private one never sees our handshake, where as the server
/// we would have learnt its address from its own.
fn free_role(local: &Local, theirs: Fingerprint) -> DtlsRole {
    match local.current.as_ref().map(|current| current.keying) {
        Some(Keying::Dtls { role, fingerprint }) if fingerprint == theirs => role,
        Some(Keying::Dtls { .. } | Keying::Sdes { .. } | Keying::None) | None => DtlsRole::Client,
    }
}

fn accept_sdes(ours: &Stream<'_>, theirs: &Stream<'_>) -> Option<Keying> {
    let pairs = |taken: Crypto| {
        ours.cryptos()
            .find(|offered| {
                offered.tag == taken.tag && offered.key.profile() == taken.key.profile()
            })
            .map(|offered| (offered, taken))
    };
    let (ours, theirs) = theirs.cryptos().find_map(pairs)?;
    Some(Keying::Sdes {
        ours: ours.key,
        theirs: theirs.key,
    })
}

fn accept_dtls(ours: &Stream<'_>, theirs: &Stream<'_>) -> Option<Keying> {
    ours.fingerprint()?;
    let fingerprint = theirs.fingerprint()?;
    let role = match theirs.setup().unwrap_or(Setup::Passive) {
        Setup::Active => DtlsRole::Server,
        // An answer must not leave the choice; one that does was copied from our offer by a side that waits.
        Setup::Passive | Setup::ActiveOrPassive => DtlsRole::Client,
        Setup::Nobody => return None,
    };
    Some(Keying::Dtls { role, fingerprint })
}

/// One key for each profile, but for the one with the short tag, which is only worth taking.
fn every_crypto(local: &Local) -> Vec<Attribute> {
    SrtpProfile::ALL
        .into_iter()
        .filter(|profile| *profile != SrtpProfile::AesCm128HmacSha1_32)
        .zip(1..)
        .map(|(profile, tag)| {
            let key = local.sdes.key(profile);
            Crypto { tag, key }.attribute()
        })
        .collect()
}

fn dtls_attributes(fingerprint: Fingerprint, setup: Setup) -> Vec<Attribute> {
    vec![dtls::fingerprint_attribute(fingerprint), setup.attribute()]
}

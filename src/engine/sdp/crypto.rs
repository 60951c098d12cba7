//! Keys in the description: `a=crypto` (RFC 4568).

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::STANDARD;

use crate::engine::rtp::key::SrtpKey;
use crate::engine::rtp::key::SrtpProfile;
use crate::engine::sdp::description::Attribute;

/// Base64 with or without its padding: some leave it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    /// By which the answer says which of the offered keys it takes.
    pub(super) tag: u32,
    pub(super) key: SrtpKey,
}

impl Crypto {
    /// Reads `1 AES_CM_128_HMAC_SHA1_80 inline:<base64>|2^31`; `None` if it is damaged, or asks for something that we
    /// cannot do: an unknown suite, several keys, a key with an identifier in every packet (MKI), packets without
    /// encryption. The lifetime is the writer's to keep: it renews its key before that ends.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?.parse().ok()?;
        let suite = words.next()?;
        let profile = SrtpProfile::ALL
            .into_iter()
            .find(|profile| profile.sdes_name().eq_ignore_ascii_case(suite))?;
        let key = inline_key(words.next()?, profile)?;
        words.all(can_be_ignored).then_some(Self { tag, key })
    }

    pub(super) fn attribute(&self) -> Attribute {
        let suite = self.key.profile().sdes_name();
        let key = STANDARD.encode(self.key.key_and_salt());
        Attribute::new("crypto", format!("{} {suite} inline:{key}", self.tag))
    }
}

fn inline_key(parameters: &str, profile: SrtpProfile) -> Option<SrtpKey> {
    let (method, info) = parameters.split_once(':')?;
    // Several keys are told apart by their MKI (RFC 4568 §6.1).
    if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
        return None;
    }
    let mut fields = info.split('|');
    let bytes = LENIENT.decode(fields.next()?).ok()?;
    // `1:4` is an MKI and its length; `2^31` or `1000000` a lifetime.
    if fields.any(|field| field.contains(':')) {
        return None;
    }
    SrtpKey::new(profile, &bytes)
}

/// Session parameters change how packets are made, and an offer with one that is not understood must not be taken
/// (RFC 4568 §6.3.7); but a window's size is only a hint, and what begins with a dash is optional.
fn can_be_ignored(parameter: &str) -> bool {
    parameter.starts_with('-') || parameter.to_ascii_uppercase().starts_with("WSH=")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 bytes, as AES-CM wants.
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

    #[test]
    fn a_key_is_read_with_or_without_its_lifetime() {
        let bytes: Vec<u8> = (0..30).collect();
        let key = SrtpKey::new(SrtpProfile::AesCm128HmacSha1_80, &bytes).unwrap();
        for end in ["", "|2^31", "|1000000", " WSH=64", "|2^20 -FUTURE=1"] {
            assert_eq!(
                Crypto::parse(&format!("7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{end}")),
                Some(Crypto { tag: 7, key }),
                "{end}"
            );
        }
    }

    #[test]
    fn a_key_that_changes_packets_in_unknown_ways_is_not_taken() {
        for value in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=4"),
            format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AEAD_AES_128_GCM inline:{KEY}"),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAEC".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:!!!".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            String::new(),
        ] {
            assert_eq!(Crypto::parse(&value), None, "{value}");
        }
    }

    #[test]
    fn every_profile_is_written_and_read_again_padded_or_not() {
        for profile in SrtpProfile::ALL {
            let bytes: Vec<u8> = (0..profile.key_bytes() + profile.salt_bytes())
                .map(|byte| byte as u8 ^ 0xA5)
                .collect();
            let key = SrtpKey::new(profile, &bytes).unwrap();
            let crypto = Crypto { tag: 3, key };
            let written = crypto.attribute().value.unwrap();
            assert_eq!(Crypto::parse(&written), Some(crypto));
            assert_eq!(Crypto::parse(written.trim_end_matches('=')), Some(crypto));
        }
    }
}

//! Keys by a handshake: `a=fingerprint` (RFC 8122) and `a=setup` (RFC 4145).

use crate::engine::rtp::dtls::DtlsRole;
use crate::engine::rtp::dtls::Fingerprint;
use crate::engine::sdp::description::Attribute;

/// What a side says of who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// It does.
    Active,
    /// The other does.
    Passive,
    /// Either.
    ActiveOrPassive,
    /// Nobody for now, or something that we do not know.
    Nobody,
}

impl Setup {
    pub(super) fn parse(value: &str) -> Self {
        match value.to_ascii_lowercase().as_str() {
            "active" => Self::Active,
            "passive" => Self::Passive,
            "actpass" => Self::ActiveOrPassive,
            _ => Self::Nobody,
        }
    }

    pub(super) fn attribute(self) -> Attribute {
        let value = match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActiveOrPassive => "actpass",
            Self::Nobody => "holdconn",
        };
        Attribute::new("setup", value)
    }

    pub(super) const fn of(role: DtlsRole) -> Self {
        match role {
            DtlsRole::Client => Self::Active,
            DtlsRole::Server => Self::Passive,
        }
    }
}

/// Reads `sha-256 AB:CD:…`. Other hashes are not read: SHA-1 is broken, and every peer has SHA-256.
pub(super) fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut pairs = digits.trim().split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        // `from_str_radix` alone would take a sign.
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(Fingerprint(bytes))
}

/// Writes it in upper case, as RFC 8122 §5 has it.
pub(super) fn fingerprint_attribute(fingerprint: Fingerprint) -> Attribute {
    let digits = fingerprint.0.map(|byte| format!("{byte:02X}")).join(":");
    Attribute::new("fingerprint", format!("sha-256 {digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_either_case() {
        let fingerprint = Fingerprint(std::array::from_fn(|index| index as u8 * 8));
        let written = fingerprint_attribute(fingerprint).value.unwrap();
        assert!(written.starts_with("sha-256 00:08:10:") && written.ends_with(":F0:F8"));
        for text in [
            written.clone(),
            written.to_ascii_lowercase(),
            written.to_ascii_uppercase(),
        ] {
            assert_eq!(parse_fingerprint(&text), Some(fingerprint));
        }
    }

    #[test]
    fn other_hashes_and_damaged_digits_are_not_read() {
        let written = fingerprint_attribute(Fingerprint([7; 32])).value.unwrap();
        for text in [
            written.replace("sha-256", "sha-1"),
            written.replacen("07", "+7", 1),
            written.replacen("07", "7", 1),
            written.replacen("07", "0g", 1),
            format!("{written}:07"),
            written.trim_end_matches(":07").to_owned() + ":0é",
            "sha-256 AA:BB".to_owned(),
            "sha-256".to_owned(),
        ] {
            assert_eq!(parse_fingerprint(&text), None, "{text}");
        }
    }
}

//! Keys of SRTP: which ciphers there are, and the keys that SDP (RFC 4568) or DTLS (RFC 5764) agree on.

/// A cipher suite of SRTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `AEAD_AES_256_GCM` (RFC 7714).
    AeadAes256Gcm,
    /// `AEAD_AES_128_GCM` (RFC 7714).
    AeadAes128Gcm,
    /// `AES_CM_128_HMAC_SHA1_80` (RFC 4568 §6.2.1): everybody has it.
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32` (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
}

impl SrtpProfile {
    /// Every profile.
    pub const ALL: [Self; 4] = [
        Self::AeadAes256Gcm,
        Self::AeadAes128Gcm,
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
    ];

    /// Its name in `a=crypto` (RFC 4568 §6.2, RFC 7714 §14.2).
    pub const fn sdes_name(self) -> &'static str {
        match self {
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Bytes of its master key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16,
        }
    }

    /// Bytes of its master salt.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
        }
    }
}

/// The most bytes of a master key and its salt.
pub const MAX_KEY_AND_SALT: usize = 44;

/// A master key with its salt, for one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SrtpKey {
    profile: SrtpProfile,
    bytes: [u8; MAX_KEY_AND_SALT],
}

impl SrtpKey {
    /// A key from its bytes, the salt behind it; `None` if there are not as many as `profile` wants.
    pub fn new(profile: SrtpProfile, key_and_salt: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_KEY_AND_SALT];
        let wanted = profile.key_bytes() + profile.salt_bytes();
        if key_and_salt.len() != wanted {
            return None;
        }
        bytes[..wanted].copy_from_slice(key_and_salt);
        Some(Self { profile, bytes })
    }

    /// Its cipher suite.
    pub const fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// The master key.
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_bytes()]
    }

    /// The master salt.
    pub fn salt(&self) -> &[u8] {
        let from = self.profile.key_bytes();
        &self.bytes[from..from + self.profile.salt_bytes()]
    }

    /// Key and salt, as `a=crypto` carries them.
    pub fn key_and_salt(&self) -> &[u8] {
        &self.bytes[..self.profile.key_bytes() + self.profile.salt_bytes()]
    }
}

impl std::fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpKey({:?}, <secret>)", self.profile)
    }
}

//! DTLS-SRTP (RFC 5763, RFC 5764): whose certificate is expected, and who calls whom.

/// The SHA-256 of a certificate, as `a=fingerprint` carries it (RFC 8122 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Which side opens the handshake (`a=setup`, RFC 4145 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello (`active`).
    Client,
    /// We wait for it (`passive`).
    Server,
}

//! SDP (RFC 8866) as telephones write it, and offer/answer (RFC 3264).

//! What we read out of SIP messages and put into them, in the words of the stack below.

use rsipstack::sip::HasHeaders;
use rsipstack::sip::Header;
use rsipstack::sip::Headers;
use rsipstack::sip::Request;
use rsipstack::sip::headers::make_header;

/// What we serve, for `Allow`.
pub(super) use super::normalise::ALLOW;
/// The extensions that we know, for `Supported`.
pub(super) const SUPPORTED: &str = "100rel, timer";
/// The only body that describes a session.
pub(super) const SDP: &str = "application/sdp";

/// A header field by its name.
pub(super) fn field(name: &str, value: impl Into<String>) -> Header {
    make_header(name, value.into())
}

/// Every value of a header field, by its full name, in order. Lists are not taken apart.
pub(super) fn values<'a>(
    message: &'a impl HasHeaders,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    let headers: &'a Headers = message.headers();
    headers
        .iter()
        .filter(move |header| header.name().eq_ignore_ascii_case(name))
        .map(Header::value)
}

/// The first value of a header field.
pub(super) fn value<'a>(message: &'a impl HasHeaders, name: &str) -> Option<&'a str> {
    values(message, name).next().map(str::trim)
}

/// The media type of the body, without parameters and in lower case; empty if there is no body.
pub(super) fn body_type(request: &Request) -> String {
    if request.body.is_empty() {
        return String::new();
    }
    let named = value(request, "Content-Type").unwrap_or_default();
    let essence = named.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// The user part of an address as it is written in From, To or a Request-URI: without the parameters that some put
/// behind a number (RFC 4694), and with its escapes undone.
pub(super) fn user(address: &str) -> String {
    let address = match address.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => address,
    };
    let rest = address.split_once(':').map_or(address, |(_, rest)| rest);
    // A tel: address is nothing but a number.
    let user = match rest.rsplit_once('@') {
        Some((user, _)) => user,
        None if address.starts_with("tel:") => rest,
        None => return String::new(),
    };
    number(user)
}

/// The number or name in the user part of an address.
pub(super) fn number(user: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(user).decode_utf8_lossy();
    let number = decoded.split(';').next().unwrap_or_default();
    // A password in an address is nobody's number.
    number.split(':').next().unwrap_or_default().to_owned()
}

/// The parts of a Contact field that route a request: `<sip:…>` or a bare address.
pub(super) fn contact_uri(request: &Request) -> Option<rsipstack::sip::Uri> {
    let text = value(request, "Contact")?;
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.split_once('>')?.0,
        None => text.split(';').next()?,
    };
    rsipstack::sip::Uri::try_from(address.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_address_is_its_number_and_nothing_else() {
        for (address, user_part) in [
            (
                "\"A < B\" <sip:+15551234;npdi=yes@carrier.example;user=phone>;tag=1",
                "+15551234",
            ),
            ("sip:1000@10.0.0.1:5060", "1000"),
            ("<sip:alice%40corp@host>", "alice@corp"),
            ("<sip:host>;tag=1", ""),
            ("tel:+15551234;phone-context=x", "+15551234"),
            ("<sip:bob:secret@host>", "bob"),
            ("", ""),
        ] {
            assert_eq!(user(address), user_part, "{address}");
        }
    }
}

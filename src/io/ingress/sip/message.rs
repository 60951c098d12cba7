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

/// The parts of a Contact field that route a request: `<sip:…>` or a bare address.
pub(super) fn contact_uri(request: &Request) -> Option<rsipstack::sip::Uri> {
    let text = value(request, "Contact")?;
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.split_once('>')?.0,
        None => text.split(';').next()?,
    };
    rsipstack::sip::Uri::try_from(address.trim()).ok()
}

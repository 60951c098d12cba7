//! The grammar of hosts, SIP URIs and names in header fields, as far as people write them into a configuration.

use std::net::IpAddr;
use std::net::Ipv6Addr;

use ipnet::IpNet;

use crate::engine::destination::Destination;
use crate::engine::destination::is_host;
use crate::engine::destination::is_host_and_port;

/// Where a hand-off goes: a telephone number or a SIP URI. Callers `by_twilio` can be sent to fewer places than a PBX knows.
pub(super) fn handoff(text: &str, by_twilio: bool) -> Result<String, String> {
    let destination = Destination::parse(text).ok_or(
        "must be a telephone number such as \"+18005551212\" or a URI such as \"sip:queue@pbx.example.com\"",
    )?;
    if by_twilio && !destination.is_dialable() {
        let reason = "must be digits or sip:USER@HOST, for Twilio's calls come here too and Twilio dials nothing else";
        return Err(reason.to_owned());
    }
    Ok(destination.to_string())
}

/// Where to register: a SIP URI without a user, and with no parameter but its transport.
pub(super) fn registrar(text: &str) -> Result<String, String> {
    let wrong = "must be a URI without a user, such as \"sip:pbx.example.com:5060;transport=tcp\"";
    let (scheme, rest) = text.split_once(':').ok_or(wrong)?;
    let (address, parameter) = match rest.split_once(';') {
        Some((address, parameter)) => (address, Some(parameter)),
        None => (rest, None),
    };
    let transport = match parameter.map(|parameter| parameter.strip_prefix("transport=")) {
        None => None,
        Some(Some(word @ ("udp" | "tcp" | "tls"))) => Some(word),
        Some(_) => return Err(wrong.to_owned()),
    };
    // RFC 3261 §26.2.2: sips is never without TLS, and there is none over UDP here.
    let fits = match scheme {
        "sip" => true,
        "sips" => transport != Some("udp"),
        _ => false,
    };
    if !fits || !is_host_and_port(address) {
        return Err(wrong.to_owned());
    }
    Ok(text.to_owned())
}

/// A host that others can reach.
pub(super) fn reachable_host(text: &str) -> Result<String, String> {
    let host = host(text)?;
    if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
        return Err("must be an address that callers can reach".to_owned());
    }
    Ok(host)
}

/// An IP address that others can reach.
pub(super) fn reachable_address(text: &str) -> Result<IpAddr, String> {
    reachable_host(text)?
        .parse()
        .map_err(|_| "must be an IP address".to_owned())
}

/// A name in lower case, or an IP address, IPv6 without its brackets.
pub(super) fn host(text: &str) -> Result<String, String> {
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = unbracketed.parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    if is_host(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("must be an IP address or a host name, without a port".to_owned())
}

/// A network, or a single address as the network of it alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text
        .parse()
        .or_else(|_| single())
        .map_err(|_| format!("{text:?} must be a network or an address, such as \"10.0.0.0/8\""))?;
    Ok(network.trunc())
}

/// What goes between the quotes of a digest unescaped.
pub(super) fn quotable(text: &str) -> Result<String, String> {
    if text
        .chars()
        .any(|c| c.is_control() || c == '"' || c == '\\')
    {
        return Err("must have no quote, backslash or control character".to_owned());
    }
    Ok(text.to_owned())
}

/// The user part of a SIP URI as it stands there (RFC 3261 §25.1, `user`).
pub(super) fn uri_user(text: &str) -> Result<String, String> {
    let is_user = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%".contains(&byte);
    if !text.bytes().all(is_user) {
        return Err("must be the user of a SIP address, such as \"1000\"".to_owned());
    }
    Ok(text.to_owned())
}

/// A field's name (RFC 3261 §25.1, `token`).
pub(super) fn header_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(format!(
            "{text:?} must be the name of a SIP header field, such as \"X-Department\""
        ));
    }
    Ok(text.to_owned())
}

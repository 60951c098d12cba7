//! The grammar of hosts, SIP URIs and names in header fields, as far as people write them into a configuration.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use ipnet::IpNet;

/// The longest number that is dialled (E.164: 15 digits).
const LONGEST_NUMBER: usize = 15;

/// Where a hand-off goes: a telephone number or a `sip:` URI.
pub(super) fn handoff(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = (1..=LONGEST_NUMBER).contains(&digits.len()) && is_digits(digits);
    if is_number || text.strip_prefix("sip:").is_some_and(is_address) {
        return Ok(text.to_owned());
    }
    Err(
        "must be a telephone number such as \"+18005551212\" or a URI such as \"sip:queue@pbx.example.com\""
            .to_owned(),
    )
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

/// What follows the scheme of a SIP URI: perhaps a user, a host, perhaps parameters. What could break out of a header
/// field or an XML attribute is not in it (RFC 3261 §25.1 wants it escaped).
fn is_address(text: &str) -> bool {
    let is_clean = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte));
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let end = rest.find([';', '?']).unwrap_or(rest.len());
    is_clean
        && user.is_none_or(|user| !user.is_empty() && !user.contains('@'))
        && is_host_and_port(&rest[..end])
}

/// A host, IPv6 in brackets, and perhaps a port.
pub(super) fn is_host_and_port(text: &str) -> bool {
    let is_port = |text: &str| is_digits(text) && text.parse::<u16>().is_ok_and(|port| port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            address.parse::<Ipv6Addr>().is_ok() && port_fits
        });
    }
    match text.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(text),
    }
}

/// An IPv4 address, or a name whose last label begins with a letter (RFC 3261 §25.1, `hostname`).
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_name = text.len() <= 253
        && text.split('.').all(is_label)
        && last.starts_with(|c: char| c.is_ascii_alphabetic());
    is_name || text.parse::<Ipv4Addr>().is_ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

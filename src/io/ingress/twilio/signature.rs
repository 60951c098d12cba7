//! X-Twilio-Signature: who holds the account's auth token said this.
//!
//! The signature is HMAC-SHA1 with the auth token over the URL as Twilio knows it, followed by the form's parameters,
//! names and values, sorted by name. The URL is made from `http.public_url`, never from the `Host` header: behind a
//! proxy the two differ, and a caller can write anything into a header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::Mac;
use http::Uri;
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// The header, in the spelling that `http` uses.
pub const HEADER: &str = "x-twilio-signature";

/// The signature of `url` and a form's `parameters`.
pub fn sign(auth_token: &str, url: &str, parameters: &[(String, String)]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(auth_token.as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(url.as_bytes());
    let mut sorted: Vec<&(String, String)> = parameters.iter().collect();
    // A name that comes twice counts with both values, but the same pair only once, as in Twilio's own libraries.
    sorted.sort_unstable();
    sorted.dedup();
    for (name, value) in sorted {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Whether `signature` is right for one of `urls`. How long it takes tells nothing about how right it is.
pub fn verify(
    auth_token: &str,
    urls: &[String],
    parameters: &[(String, String)],
    signature: &[u8],
) -> bool {
    urls.iter()
        .map(|url| sign(auth_token, url, parameters))
        .fold(false, |right, expected| {
            right | bool::from(expected.as_bytes().ct_eq(signature))
        })
}

/// The forms in which Twilio may have signed a webhook's URL: with the scheme's own port and without it, since Twilio's
/// signer adds and drops it depending on product and age.
pub fn webhook_urls(url: &str) -> Vec<String> {
    with_and_without_port(url)
}

/// The forms in which Twilio may have signed a media websocket's URL. Besides the port: `wss://` is what the TwiML says
/// and what is documented, but the handshake is an HTTP request and some signers write `https://`; and a slash at the
/// end, which Twilio's signer adds to some websocket URLs.
pub fn websocket_urls(url: &str) -> Vec<String> {
    let web = match url.split_once("://") {
        Some(("wss", rest)) => format!("https://{rest}"),
        Some(("ws", rest)) => format!("http://{rest}"),
        _ => url.to_owned(),
    };
    [url.to_owned(), web]
        .iter()
        .flat_map(|url| with_and_without_port(url))
        .flat_map(|url| [format!("{url}/"), url])
        .collect()
}

fn with_and_without_port(url: &str) -> Vec<String> {
    let mut urls = vec![url.to_owned()];
    let Ok(uri) = url.parse::<Uri>() else {
        return urls;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return urls;
    };
    let standard = match scheme {
        "https" | "wss" => 443,
        _ => 80,
    };
    let host = authority.host();
    let rest = url
        .split_once("://")
        .and_then(|(_, rest)| rest.strip_prefix(authority.as_str()))
        .unwrap_or_default();
    match authority.port_u16() {
        None => urls.push(format!("{scheme}://{host}:{standard}{rest}")),
        Some(_) => urls.push(format!("{scheme}://{host}{rest}")),
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Twilio's security page.
    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    #[test]
    fn the_example_of_twilio_is_right() {
        assert_eq!(sign(TOKEN, URL, &example()), SIGNATURE);
        assert!(verify(
            TOKEN,
            &webhook_urls(URL),
            &example(),
            SIGNATURE.as_bytes()
        ));
    }

    #[test]
    fn any_other_token_url_parameter_or_signature_is_wrong() {
        let urls = webhook_urls(URL);
        let mut parameters = example();
        assert!(!verify("12346", &urls, &parameters, SIGNATURE.as_bytes()));
        let other = webhook_urls("https://mycompany.com/myapp.php?foo=1");
        assert!(!verify(TOKEN, &other, &parameters, SIGNATURE.as_bytes()));
        for wrong in ["", "RSOYDt4T1cUTdK1PDd93/VVr8B8", "AAAA"] {
            assert!(!verify(TOKEN, &urls, &parameters, wrong.as_bytes()));
        }
        parameters.pop();
        assert!(!verify(TOKEN, &urls, &parameters, SIGNATURE.as_bytes()));
    }

    #[test]
    fn a_pair_that_comes_twice_counts_once_and_two_values_of_a_name_both_count() {
        let once = pairs(&[("a", "1"), ("b", "2")]);
        let twice = pairs(&[("b", "2"), ("a", "1"), ("b", "2")]);
        let two_values = pairs(&[("b", "3"), ("a", "1"), ("b", "2")]);
        assert_eq!(sign("t", "u", &once), sign("t", "u", &twice));
        assert_eq!(sign("t", "u", &two_values), sign("t", "ua1b2b3", &[]));
    }

    #[test]
    fn the_standard_port_may_be_there_or_not() {
        assert_eq!(
            webhook_urls("https://a.example/voice"),
            ["https://a.example/voice", "https://a.example:443/voice"]
        );
        assert_eq!(
            webhook_urls("http://a.example:8080/voice?x=1"),
            [
                "http://a.example:8080/voice?x=1",
                "http://a.example/voice?x=1"
            ]
        );
    }

    #[test]
    fn a_websocket_may_be_signed_as_a_web_page_and_with_a_slash() {
        let urls = websocket_urls("wss://a.example/twilio/media");
        for expected in [
            "wss://a.example/twilio/media",
            "wss://a.example/twilio/media/",
            "wss://a.example:443/twilio/media",
            "https://a.example/twilio/media",
            "https://a.example/twilio/media/",
        ] {
            assert!(urls.iter().any(|url| url == expected), "{expected}");
        }
        assert_eq!(urls.len(), 8);
    }

    fn example() -> Vec<(String, String)> {
        pairs(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ])
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }
}

//! Twilio's request signature: base64 of HMAC-SHA1, keyed with the account's token, over the URL and the sorted form fields.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::Mac;
use sha1::Sha1;

/// The value of `X-Twilio-Signature`. A handshake has no form.
pub(crate) fn sign(auth_token: &str, url: &str, form: &[(&str, String)]) -> String {
    let mut fields: Vec<_> = form.iter().collect();
    fields.sort();
    let mut mac = Hmac::<Sha1>::new_from_slice(auth_token.as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(url.as_bytes());
    for (name, value) in fields {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_twilios_documentation_comes_out() {
        let form = [
            ("To", "+18005551212"),
            ("Digits", "1234"),
            ("CallSid", "CA1234567890ABCDE"),
            ("From", "+14158675309"),
            ("Caller", "+14158675309"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let signature = sign(
            "12345",
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            &form,
        );
        assert_eq!(signature, "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    }
}

//! What an agent sends along with a hand-off, as headers for whoever takes the call over.
//!
//! The agent's metadata is JSON of any shape, and what is in it may come from the caller's mouth. It becomes one
//! `X-Tandem-<Key>` for each plain member of the object, and, where it is short enough, one `User-to-User` with all of
//! it (RFC 7433), which contact centres know how to show. Nothing in the JSON can begin a header of its own: names keep
//! letters, digits and dashes, and values keep printable ASCII, with everything else percent-encoded as UTF-8.

use std::fmt::Write;

use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;

/// The most `X-Tandem-` headers. A REFER must still fit into one packet.
pub const MOST_HEADERS: usize = 16;
/// The longest value of one, in bytes; a longer one is left out, since half a value may say something else.
pub const LONGEST_VALUE: usize = 256;
/// The longest key that becomes a name, in bytes.
pub const LONGEST_KEY: usize = 64;
/// The most JSON in User-to-User, in bytes: ISDN's limit, which gateways to it keep (RFC 7434).
pub const LARGEST_USER_TO_USER: usize = 128;

/// Besides control characters and what is not ASCII: the sign of the encoding itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The headers for a hand-off with this metadata, in the order of its keys.
pub fn headers(metadata: &Value) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    if let Value::Object(members) = metadata {
        for (key, value) in members {
            if headers.len() == MOST_HEADERS {
                break;
            }
            if let (Some(name), Some(value)) = (name(key), text(value))
                && !headers
                    .iter()
                    .any(|(taken, _)| taken.eq_ignore_ascii_case(&name))
            {
                headers.push((name, value));
            }
        }
    }
    headers.extend(user_to_user(metadata).map(|value| ("User-to-User".to_owned(), value)));
    headers
}

/// `X-Tandem-Account-Id` of `account_id`; `None` if nothing of the key can stand in a name.
fn name(key: &str) -> Option<String> {
    if key.len() > LONGEST_KEY {
        return None;
    }
    let dashed = key.chars().map(|c| if c == '_' { '-' } else { c });
    let kept: String = dashed
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let words: Vec<String> = kept
        .split('-')
        .filter(|word| !word.is_empty())
        .map(capitalised)
        .collect();
    (!words.is_empty()).then(|| format!("X-Tandem-{}", words.join("-")))
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_ascii_uppercase() + rest
}

/// The value of a plain member; `None` for lists, objects, nothing, and what is too long.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let encoded = utf8_percent_encode(&text, ENCODED).to_string();
    (!encoded.is_empty() && encoded.len() <= LONGEST_VALUE).then_some(encoded)
}

/// All of it as compact JSON in hexadecimal.
fn user_to_user(metadata: &Value) -> Option<String> {
    let nothing = match metadata {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if nothing {
        return None;
    }
    let json = metadata.to_string();
    if json.len() > LARGEST_USER_TO_USER {
        return None;
    }
    let mut value = String::with_capacity(json.len() * 2 + 13);
    for byte in json.bytes() {
        write!(value, "{byte:02x}").expect("a String takes what is written to it");
    }
    value.push_str(";encoding=hex");
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::Just;
    use proptest::prelude::Strategy;
    use proptest::prelude::any;
    use proptest::prop_oneof;
    use proptest::proptest;
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_members_become_headers_and_all_of_it_one_more() {
        let headers = headers(&json!({"account_id": "42", "vip": true, "n": 1.5, "list": [1]}));
        assert_eq!(
            names(&headers),
            [
                "X-Tandem-Account-Id",
                "X-Tandem-N",
                "X-Tandem-Vip",
                "User-to-User"
            ]
        );
        assert_eq!(values(&headers)[..3], ["42", "1.5", "true"]);
        let (hex, encoding) = headers[3].1.split_once(';').expect("a parameter");
        assert_eq!(encoding, "encoding=hex");
        assert_eq!(
            unhex(hex),
            r#"{"account_id":"42","list":[1],"n":1.5,"vip":true}"#
        );
    }

    #[test]
    fn nothing_begins_a_header_of_its_own() {
        let headers = headers(&json!({
            "a\r\nRoute: <sip:evil>": "x",
            "b": "x\r\nRefer-To: <sip:evil>",
            "c": "Jörg 100 %\t",
            "é": "no name",
            "-": "none either",
        }));
        assert_eq!(
            headers[..3],
            [
                ("X-Tandem-ARoutesipevil".to_owned(), "x".to_owned()),
                (
                    "X-Tandem-B".to_owned(),
                    "x%0D%0ARefer-To: <sip:evil>".to_owned()
                ),
                ("X-Tandem-C".to_owned(), "J%C3%B6rg 100 %25".to_owned()),
            ]
        );
        assert_eq!(names(&headers[3..]), ["User-to-User"]);
    }

    #[test]
    fn what_is_too_much_is_left_out_whole() {
        let long = "x".repeat(LONGEST_VALUE);
        assert_eq!(headers(&json!({"a": long})).len(), 1);
        assert!(headers(&json!({"a": format!("{long}x")})).is_empty());
        assert!(headers(&json!({ "k".repeat(LONGEST_KEY + 1): long })).is_empty());
        let many: Value = (0..99).map(|at| (format!("k{at}"), json!("v"))).collect();
        assert_eq!(headers(&many).len(), MOST_HEADERS);
    }

    #[test]
    fn names_that_become_the_same_are_sent_once() {
        let headers = headers(&json!({"a_b": 1, "a-b": 2, "A__B": 3}));
        assert_eq!(names(&headers), ["X-Tandem-A-B", "User-to-User"]);
    }

    #[test]
    fn no_metadata_is_no_header() {
        for nothing in [json!(null), json!({}), json!([]), json!("")] {
            assert!(headers(&nothing).is_empty(), "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn every_header_is_one_clean_line_within_the_limits(metadata in any_json()) {
            let headers = headers(&metadata);
            assert!(headers.len() <= MOST_HEADERS + 1);
            for (name, value) in headers {
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
                assert!(name == "User-to-User" || name.starts_with("X-Tandem-"), "{name}");
                assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{value}");
                assert!(value.len() <= 2 * LARGEST_USER_TO_USER + 13, "{value}");
            }
        }
    }

    /// JSON with everything that could break out of a line.
    fn any_json() -> impl Strategy<Value = Value> {
        let nasty = prop_oneof![
            any::<String>(),
            "[a-zA-Z_-]{1,12}",
            "(\r\n|\n|\r|\u{0}|\u{7f}|\u{85}|\u{2028}|: |;|,|%|[a-z]){0,20}",
            Just("Via: SIP/2.0/UDP evil\r\n\r\n".to_owned()),
        ];
        let leaf = prop_oneof![
            nasty.clone().prop_map(Value::String),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 40, 20, move |inner| {
            let member = (nasty.clone(), inner.clone());
            prop_oneof![
                vec(inner, 0..5).prop_map(Value::from),
                vec(member, 0..20).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    fn names(headers: &[(String, String)]) -> Vec<&str> {
        headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn values(headers: &[(String, String)]) -> Vec<&str> {
        headers.iter().map(|(_, value)| value.as_str()).collect()
    }

    fn unhex(hex: &str) -> String {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

//! The body of a POST: the offer, alone or beside session parameters. It comes from whoever found the URL, so its length,
//! its time and its parts have limits.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::Multipart;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde_json::Value;
use tracing::debug;

use super::http::SDP_TYPE;
use super::refused::Refused;

/// How long a body may take: it fits into a few packets, and nobody has to wait for it.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A session parameter's name and value together, in bytes: as long as Twilio lets its own be.
const MAX_PARAMETER: usize = 500;

/// Names and values in the order in which they were written.
pub(super) type Pairs = Vec<(String, String)>;

/// What a POST brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The offer, as it came.
    pub(super) sdp: Bytes,
    /// Session parameters of the body, whatever their names are.
    pub(super) parameters: Pairs,
}

/// How the body of a POST is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// The offer alone.
    Sdp,
    /// A form with the offer and perhaps session parameters.
    Form,
}

impl BodyKind {
    /// What the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        match media_type(headers).as_str() {
            SDP_TYPE => Ok(Self::Sdp),
            "multipart/form-data" => Ok(Self::Form),
            _ => Err(Refused::UnsupportedOffer),
        }
    }
}

/// The media type of a body, in lower case and without its parameters; empty if there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    essence(value.unwrap_or_default())
}

/// Reads the offer.
pub(super) async fn read(
    kind: BodyKind,
    request: Request,
    within: Duration,
) -> Result<Offer, Refused> {
    match kind {
        BodyKind::Sdp => Ok(Offer {
            sdp: bytes(request, within).await?,
            parameters: Pairs::new(),
        }),
        BodyKind::Form => tokio::time::timeout(within, form(request))
            .await
            .map_err(|_| Refused::BodyTimeout)?,
    }
}

/// Reads a whole body.
pub(super) async fn bytes(request: Request, within: Duration) -> Result<Bytes, Refused> {
    tokio::time::timeout(within, Bytes::from_request(request, &()))
        .await
        .map_err(|_| Refused::BodyTimeout)?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refused::BodyTooLarge,
            _ => Refused::BodyLost,
        })
}

async fn form(request: Request) -> Result<Offer, Refused> {
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| Refused::BadMultipart)?;
    let unreadable = |error: axum::extract::multipart::MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused::BodyTooLarge,
        _ => Refused::BadMultipart,
    };
    let mut sdp = None;
    let mut json = None;
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        let slot = match essence(part.content_type().unwrap_or_default()).as_str() {
            SDP_TYPE => &mut sdp,
            "application/json" => &mut json,
            _ => return Err(Refused::BadMultipart),
        };
        if slot.is_some() {
            return Err(Refused::BadMultipart);
        }
        *slot = Some(part.bytes().await.map_err(unreadable)?);
    }
    Ok(Offer {
        sdp: sdp.ok_or(Refused::BadMultipart)?,
        parameters: json.map_or_else(|| Ok(Pairs::new()), |json| pairs_of_json(&json))?,
    })
}

fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn pairs_of_json(json: &[u8]) -> Result<Pairs, Refused> {
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(json).map_err(|_| Refused::BadParameters)?;
    let pairs = object.into_iter().filter_map(|(name, value)| match value {
        Value::String(text) => Some(Ok((name, text))),
        Value::Number(number) => Some(Ok((name, number.to_string()))),
        Value::Bool(flag) => Some(Ok((name, flag.to_string()))),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => Some(Err(Refused::BadParameters)),
    });
    pairs.collect()
}

/// The parameters that may reach the agent: those that the configuration names, of the body before those of the URL. One
/// that is too long is left out, as with Twilio: a call without it is better than none.
pub(super) fn allowed(names: &[String], body: &Pairs, query: &Pairs) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for name in names {
        let given = [body, query].map(|pairs| pairs.iter().find(|(key, _)| key == name));
        let values = given.into_iter().flatten().map(|(_, value)| value);
        let value = values.into_iter().find(|value| !value.is_empty());
        match value {
            Some(value) if name.len() + value.len() <= MAX_PARAMETER => {
                parameters.insert(name.clone(), value.clone());
            }
            Some(_) => debug!(name, "left out a session parameter that is too long"),
            None => {}
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_form_is_an_offer_and_its_parameters_in_any_order() {
        let sdp = ("Application/SDP", "v=0\r\n");
        let json = (
            "application/json; charset=utf-8",
            r#"{"b": "2", "a": 1.5, "c": true, "d": null}"#,
        );
        let expected = Offer {
            sdp: "v=0\r\n".into(),
            parameters: pairs(&[("a", "1.5"), ("b", "2"), ("c", "true")]),
        };
        for parts in [[sdp, json], [json, sdp]] {
            let mut offer = form_of(&parts).await.expect("an offer");
            offer.parameters.sort();
            assert_eq!(offer, expected);
        }
        let alone = form_of(&[sdp]).await.expect("an offer");
        assert_eq!(alone.parameters, []);
    }

    #[tokio::test]
    async fn a_form_with_anything_else_is_refused() {
        let sdp = ("application/sdp", "v=0");
        for (parts, reason) in [
            (&[][..], Refused::BadMultipart),
            (&[("application/json", "{}")], Refused::BadMultipart),
            (&[sdp, sdp], Refused::BadMultipart),
            (&[sdp, ("text/plain", "{}")], Refused::BadMultipart),
            (&[sdp, ("application/json", "[]")], Refused::BadParameters),
            (&[sdp, ("application/json", "{")], Refused::BadParameters),
            (
                &[sdp, ("application/json", r#"{"a": {"b": 1}}"#)],
                Refused::BadParameters,
            ),
        ] {
            assert_eq!(form_of(parts).await, Err(reason), "{parts:?}");
        }
        let cut = "--limit\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: application/sdp\r\n\r\nv=0";
        let cut = read(BodyKind::Form, request(Body::from(cut)), BODY_TIMEOUT);
        assert_eq!(cut.await, Err(Refused::BadMultipart));
        let no_limit = Request::builder().header(CONTENT_TYPE, "multipart/form-data");
        let no_limit = no_limit.body(Body::empty()).expect("a request");
        let no_limit = read(BodyKind::Form, no_limit, BODY_TIMEOUT);
        assert_eq!(no_limit.await, Err(Refused::BadMultipart));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_body_that_does_not_come() {
        for kind in [BodyKind::Sdp, BodyKind::Form] {
            let never = stream::pending::<Result<Bytes, std::io::Error>>();
            let body = request(Body::from_stream(never));
            let soon = Duration::from_millis(5);
            assert_eq!(read(kind, body, soon).await, Err(Refused::BodyTimeout));
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_offer() {
        let broken = stream::iter([Ok(Bytes::from("v=0")), Err(std::io::Error::other("gone"))]);
        let body = request(Body::from_stream(broken));
        let read = read(BodyKind::Sdp, body, BODY_TIMEOUT);
        assert_eq!(read.await, Err(Refused::BodyLost));
    }

    #[test]
    fn the_type_decides_how_the_body_is_read() {
        for (kind, expected) in [
            ("application/sdp", Ok(BodyKind::Sdp)),
            ("Application/SDP ; charset=utf-8", Ok(BodyKind::Sdp)),
            ("multipart/form-data; boundary=x", Ok(BodyKind::Form)),
            ("application/sdp2", Err(Refused::UnsupportedOffer)),
            ("text/plain", Err(Refused::UnsupportedOffer)),
            ("", Err(Refused::UnsupportedOffer)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
            assert_eq!(BodyKind::of(&headers), expected, "{kind}");
        }
        let none = BodyKind::of(&HeaderMap::new());
        assert_eq!(none, Err(Refused::UnsupportedOffer));
    }

    #[test]
    fn only_what_the_configuration_names_reaches_the_agent() {
        let names = ["customer", "campaign", "long", "none", "empty"].map(str::to_owned);
        let long = "x".repeat(MAX_PARAMETER - 3);
        let body = pairs(&[("customer", "17"), ("secret", "1"), ("long", &long)]);
        let query = pairs(&[
            ("customer", "18"),
            ("campaign", "spring"),
            ("campaign", "summer"),
            ("empty", ""),
        ]);
        let allowed = allowed(&names, &body, &query);
        let expected = [("campaign", "spring"), ("customer", "17")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(allowed, BTreeMap::from(expected));
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn request(body: Body) -> Request {
        Request::builder()
            .header(CONTENT_TYPE, "multipart/form-data; boundary=limit")
            .body(body)
            .expect("a request")
    }

    async fn form_of(parts: &[(&str, &str)]) -> Result<Offer, Refused> {
        let mut text: String = parts
            .iter()
            .enumerate()
            .map(|(number, (kind, content))| {
                format!("--limit\r\nContent-Disposition: form-data; name=\"{number}\"\r\nContent-Type: {kind}\r\n\r\n{content}\r\n")
            })
            .collect();
        text.push_str("--limit--\r\n");
        read(BodyKind::Form, request(Body::from(text)), BODY_TIMEOUT).await
    }
}

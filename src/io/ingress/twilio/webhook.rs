//! The webhooks: what Twilio asks about a call, and the TwiML that answers.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Form;
use axum::extract::Query;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use tracing::info;

use super::Shared;
use super::dial;
use super::dial::Dialled;
use super::measure;
use super::refused::Refused;
use super::signature;
use super::token::Parties;
use crate::io::ingress::AfterCall;
use crate::io::leg::IngressKind;

/// The `<Parameter>` that carries the token.
pub const TOKEN_PARAMETER: &str = "token";
/// The longest CallSid: Twilio's have 34 characters.
const MAX_CALL_SID: usize = 64;
/// The longest number or address of a caller; SIP URIs with parameters are the longest.
const MAX_PARTY: usize = 512;
/// Twilio's own limit for a parameter's name and value together.
const MAX_PARAMETER: usize = 500;

type Pairs = Vec<(String, String)>;

/// `POST /twilio/voice`: what to do with a call that comes in.
pub(super) async fn voice(
    State(shared): State<Arc<Shared>>,
    RawQuery(raw_query): RawQuery,
    query: Result<Query<Pairs>, QueryRejection>,
    headers: HeaderMap,
    form: Result<Form<Pairs>, FormRejection>,
) -> Response {
    let form = form.map(|Form(pairs)| pairs).unwrap_or_default();
    let query = query.map(|Query(pairs)| pairs).unwrap_or_default();
    let answer = signed_call_sid(&shared, "/twilio/voice", raw_query, &headers, &form)
        .and_then(|call_sid| connect(&shared, call_sid, &form, &query));
    match answer {
        Ok(twiml) => xml(twiml),
        Err(reason @ (Refused::Busy | Refused::Draining)) => {
            measure::refused(reason);
            info!(reason = reason.label(), "told Twilio to reject a call");
            xml(r#"<Response><Reject reason="busy"/></Response>"#.to_owned())
        }
        Err(reason) => refuse(reason),
    }
}

/// `POST /twilio/action`: what comes after our websocket, and after a `<Dial>`.
pub(super) async fn action(
    State(shared): State<Arc<Shared>>,
    RawQuery(raw_query): RawQuery,
    query: Result<Query<Pairs>, QueryRejection>,
    headers: HeaderMap,
    form: Result<Form<Pairs>, FormRejection>,
) -> Response {
    let form = form.map(|Form(pairs)| pairs).unwrap_or_default();
    let query = query.map(|Query(pairs)| pairs).unwrap_or_default();
    match signed_call_sid(&shared, "/twilio/action", raw_query, &headers, &form) {
        Ok(call_sid) => xml(next(&shared, call_sid, &form, &query)),
        Err(reason) => refuse(reason),
    }
}

/// What a caller does next whose websocket, or whose `<Dial>`, is over.
fn next(shared: &Shared, call_sid: &str, form: &Pairs, query: &Pairs) -> String {
    const HANG_UP: &str = "<Response><Hangup/></Response>";
    let exchange = &shared.ingress.exchange;
    let after = match Dialled::of(field(form, "DialCallStatus")) {
        None => exchange.after_call(IngressKind::Twilio, call_sid),
        // Who has gone is not brought back; the exchange may forget them as if they had arrived.
        Some(Dialled::Failed(_)) if dial::is_gone(field(form, "CallStatus")) => {
            exchange.after_dial(IngressKind::Twilio, call_sid, Ok(()))
        }
        Some(Dialled::Taken) => exchange.after_dial(IngressKind::Twilio, call_sid, Ok(())),
        Some(Dialled::Failed(reason)) => {
            info!(call_sid, reason, "nobody took a transferred call");
            exchange.after_dial(IngressKind::Twilio, call_sid, Err(reason))
        }
    };
    match after {
        AfterCall::HangUp => HANG_UP.to_owned(),
        AfterCall::Dial(transfer) => dial::twiml(&transfer, &shared.action_url()),
        // In the middle of a call there is no `<Reject>`: who cannot be let in again can only be hung up on.
        AfterCall::Return => connect(shared, call_sid, form, query).unwrap_or_else(|reason| {
            measure::refused(reason);
            info!(
                call_sid,
                reason = reason.label(),
                "a caller cannot come back"
            );
            HANG_UP.to_owned()
        }),
    }
}

/// The CallSid of a webhook that Twilio signed.
fn signed_call_sid<'a>(
    shared: &Shared,
    path: &str,
    raw_query: Option<String>,
    headers: &HeaderMap,
    form: &'a Pairs,
) -> Result<&'a str, Refused> {
    let query = raw_query.map_or_else(String::new, |query| format!("?{query}"));
    let url = format!("{}{path}{query}", shared.ingress.public_url);
    shared.check_signature(headers, &signature::webhook_urls(&url), form)?;
    let call_sid = field(form, "CallSid");
    let usable = (1..=MAX_CALL_SID).contains(&call_sid.len())
        && call_sid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    usable.then_some(call_sid).ok_or(Refused::BadWebhook)
}

fn connect(
    shared: &Shared,
    call_sid: &str,
    form: &Pairs,
    query: &Pairs,
) -> Result<String, Refused> {
    let parties = Parties {
        from: field(form, "From").to_owned(),
        to: field(form, "To").to_owned(),
    };
    if parties.from.len() > MAX_PARTY || parties.to.len() > MAX_PARTY {
        return Err(Refused::BadWebhook);
    }
    if !shared.ingress.exchange.accepting() {
        return Err(Refused::Busy);
    }
    let token = shared
        .tokens
        .issue(call_sid, parties, Instant::now())
        .ok_or(Refused::Busy)?;
    let mut parameters = vec![(TOKEN_PARAMETER, token.as_str())];
    // They take the detour over Twilio because the token table would have to hold them otherwise.
    for name in &shared.ingress.config.parameters {
        let value = [query, form].map(|pairs| field(pairs, name));
        let value = value.into_iter().find(|value| !value.is_empty());
        match value {
            Some(value) if name.len() + value.len() <= MAX_PARAMETER && name != TOKEN_PARAMETER => {
                parameters.push((name, value));
            }
            _ => {}
        }
    }
    Ok(connect_twiml(
        &shared.action_url(),
        &shared.media_url(),
        &parameters,
    ))
}

fn connect_twiml(action: &str, stream: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escape(name), escape(value));
            format!(r#"<Parameter name="{name}" value="{value}"/>"#)
        })
        .collect();
    let (action, stream) = (escape(action), escape(stream));
    format!(
        r#"<Response><Connect action="{action}"><Stream url="{stream}">{parameters}</Stream></Connect></Response>"#
    )
}

fn field<'a>(pairs: &'a Pairs, name: &str) -> &'a str {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map_or("", |(_, value)| value)
}

fn xml(twiml: String) -> Response {
    ([(CONTENT_TYPE, "text/xml; charset=utf-8")], twiml).into_response()
}

fn refuse(reason: Refused) -> Response {
    measure::refused(reason);
    let status = match reason {
        Refused::BadSignature => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, reason.label()).into_response()
}

/// Text as it may stand in XML, in an element and in an attribute. What XML cannot say at all (XML 1.0 §2.2: most
/// control characters) is left out.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            character if character.is_control() || "\u{FFFE}\u{FFFF}".contains(character) => {}
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twiml_connects_the_stream_with_its_parameters() {
        assert_eq!(
            connect_twiml(
                "https://a.example/twilio/action",
                "wss://a.example/twilio/media",
                &[("token", "T"), ("name", "A & \"B\" <c>")]
            ),
            "<Response><Connect action=\"https://a.example/twilio/action\">\
             <Stream url=\"wss://a.example/twilio/media\">\
             <Parameter name=\"token\" value=\"T\"/>\
             <Parameter name=\"name\" value=\"A &amp; &quot;B&quot; &lt;c&gt;\"/>\
             </Stream></Connect></Response>"
        );
    }

    #[test]
    fn characters_that_xml_cannot_say_are_left_out() {
        assert_eq!(escape("a\u{0}b\u{1B}c\td'\u{FFFF}é"), "abc d&apos;é");
    }
}

//! The two requests Twilio makes around a stream: the voice webhook before it, the `<Connect>` action after it.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;

use super::CallIds;
use super::signature;
use super::twiml;
use super::twiml::Verb;
use crate::line::Placing;
use crate::line::SetupError;
use crate::line::causes;

/// Twilio waits 15 s for a webhook's answer (error 11200).
const TIMEOUT: Duration = Duration::from_secs(15);
/// Twilio reads no more than 64 kB of TwiML (error 11750).
const LONGEST_TWIML: usize = 64 * 1024;

/// What the voice webhook told us to do.
#[derive(Debug)]
pub(super) struct Instructions {
    /// To be asked when the stream has ended.
    pub(super) action: Option<Url>,
    /// Where the stream goes.
    pub(super) stream: Url,
    /// What `start` hands over.
    pub(super) parameters: BTreeMap<String, String>,
}

/// Asks `/twilio/voice` beside the target's `/twilio/media` what to do with the call.
pub(super) async fn ask(
    target: &Url,
    placing: &Placing,
    ids: &CallIds,
    http: &reqwest::Client,
) -> Result<Instructions, SetupError> {
    let url = voice_url(target);
    let signed = match &placing.public_url {
        Some(public) => public.join(url.path()).unwrap_or_else(|_| public.clone()),
        None => url.clone(),
    };
    let mut form = call_fields(placing, ids);
    form.push(("CallStatus", "ringing".to_owned()));
    let (verbs, twiml) = post("webhook", url, &signed, placing, &form, http).await?;
    for verb in verbs {
        if let Verb::Connect {
            action,
            stream,
            parameters,
        } = verb
        {
            let action = action.and_then(|action| signed.join(&action).ok());
            let stream = Url::parse(&stream).map_err(|_| SetupError::NoStream(twiml))?;
            return Ok(Instructions {
                action,
                stream,
                parameters,
            });
        }
    }
    Err(SetupError::NoStream(twiml))
}

/// Asks the `<Connect>` action what to do now that the stream has ended.
pub(super) async fn ask_after(
    action: &Url,
    target: &Url,
    placing: &Placing,
    ids: &CallIds,
    ending: &Ending,
    http: &reqwest::Client,
) -> Result<Vec<Verb>, SetupError> {
    let url = if placing.direct {
        at_host_of(action, target)
    } else {
        action.clone()
    };
    let mut form = call_fields(placing, ids);
    form.push((
        "CallStatus",
        if ending.caller_hung_up {
            "completed"
        } else {
            "in-progress"
        }
        .to_owned(),
    ));
    form.push(("StreamSid", ids.stream.clone()));
    form.push(("StreamDuration", ending.lasted.as_secs().to_string()));
    if ending.caller_hung_up {
        form.push(("CallDuration", ending.lasted.as_secs().to_string()));
    }
    Ok(post("action callback", url, action, placing, &form, http)
        .await?
        .0)
}

/// How the stream ended, for the action callback.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) caller_hung_up: bool,
    pub(super) lasted: Duration,
}

/// The URL, with scheme and host as the target has them.
pub(super) fn at_host_of(url: &Url, target: &Url) -> Url {
    let mut moved = if url.scheme().starts_with("ws") {
        target.clone()
    } else {
        to_http(target)
    };
    moved.set_path(url.path());
    moved.set_query(url.query());
    moved
}

fn call_fields(placing: &Placing, ids: &CallIds) -> Vec<(&'static str, String)> {
    vec![
        ("AccountSid", ids.account.clone()),
        ("ApiVersion", "2010-04-01".to_owned()),
        ("CallSid", ids.call.clone()),
        ("Called", placing.to.clone()),
        ("Caller", placing.from.clone()),
        ("Direction", "inbound".to_owned()),
        ("From", placing.from.clone()),
        ("To", placing.to.clone()),
    ]
}

async fn post(
    what: &'static str,
    url: Url,
    signed: &Url,
    placing: &Placing,
    form: &[(&'static str, String)],
    http: &reqwest::Client,
) -> Result<(Vec<Verb>, String), SetupError> {
    let unreachable = |error: reqwest::Error| SetupError::Unreachable {
        what,
        why: causes(&error),
    };
    let mut request = http
        .post(url)
        .timeout(TIMEOUT)
        .header("User-Agent", "TwilioProxy/1.1")
        .form(form);
    if let Some(token) = &placing.auth_token {
        request = request.header(
            "X-Twilio-Signature",
            signature::sign(token, signed.as_str(), form),
        );
    }
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = response.text().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(SetupError::Refused {
            what,
            status,
            body: body.trim().chars().take(300).collect(),
        });
    }
    // Twilio takes an empty answer as an empty response.
    if body.trim().is_empty() {
        body = "<Response/>".to_owned();
    }
    let verbs = (body.len() <= LONGEST_TWIML)
        .then(|| twiml::parse(&body))
        .flatten();
    let shown: String = body.trim().chars().take(300).collect();
    match verbs {
        Some(verbs) => Ok((verbs, shown)),
        None => Err(SetupError::NoStream(shown)),
    }
}

fn voice_url(target: &Url) -> Url {
    let mut url = to_http(target);
    let path = target
        .path()
        .strip_suffix("media")
        .unwrap_or("/twilio/")
        .to_owned()
        + "voice";
    url.set_path(&path);
    url
}

fn to_http(target: &Url) -> Url {
    // `Url::set_scheme` refuses to go from ws to http only for URLs without a host, which a target has.
    let text = target.as_str().replacen("ws", "http", 1);
    Url::parse(&text).expect("a websocket URL stays a URL with its scheme exchanged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_lives_beside_the_stream() {
        assert_eq!(
            voice_url(&url("ws://127.0.0.1:8080/twilio/media")).as_str(),
            "http://127.0.0.1:8080/twilio/voice"
        );
        assert_eq!(
            voice_url(&url("wss://voice.example.com/twilio/media")).as_str(),
            "https://voice.example.com/twilio/voice"
        );
    }

    #[test]
    fn a_direct_call_keeps_the_targets_host() {
        let target = url("ws://127.0.0.1:8080/twilio/media");
        let moved = |text| at_host_of(&url(text), &target).to_string();
        assert_eq!(
            moved("wss://voice.example.com/twilio/media?x=1"),
            "ws://127.0.0.1:8080/twilio/media?x=1"
        );
        assert_eq!(
            moved("https://voice.example.com/twilio/action"),
            "http://127.0.0.1:8080/twilio/action"
        );
    }

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }
}

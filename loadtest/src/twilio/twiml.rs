//! TwiML, as much as a gateway answers: the verbs of a `<Response>`, read leniently.
//!
//! The reader knows elements, attributes, text, entities, comments and CDATA; it does not validate. It never recurses on input.

use std::collections::BTreeMap;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `<Connect><Stream>`: a bidirectional media stream.
    Connect {
        action: Option<String>,
        stream: String,
        parameters: BTreeMap<String, String>,
    },
    /// `<Dial>`: the call goes to someone else.
    Dial(String),
    /// `<Hangup>`
    HangUp,
    /// `<Reject>`, with its reason.
    Reject(String),
    /// `<Redirect>`: ask for instructions there.
    Redirect(String),
    /// A verb that we pass over.
    Other(String),
}

#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
    children: Vec<Element>,
}

/// Deeper nesting is not TwiML.
const DEEPEST: usize = 16;

/// The verbs in order; `None` if this is no `<Response>`.
pub(crate) fn parse(text: &str) -> Option<Vec<Verb>> {
    let root = read(text)?;
    (root.name == "Response").then(|| root.children.iter().map(verb).collect())
}

fn verb(element: &Element) -> Verb {
    match element.name.as_str() {
        "Connect" => match element.children.iter().find(|child| child.name == "Stream") {
            Some(stream) => Verb::Connect {
                action: element.attributes.get("action").cloned(),
                stream: stream.attributes.get("url").cloned().unwrap_or_default(),
                parameters: stream.children.iter().filter_map(parameter).collect(),
            },
            None => Verb::Other("Connect".to_owned()),
        },
        "Dial" => Verb::Dial(all_text(element)),
        "Hangup" => Verb::HangUp,
        "Reject" => Verb::Reject(
            element
                .attributes
                .get("reason")
                .cloned()
                .unwrap_or_else(|| "rejected".to_owned()),
        ),
        "Redirect" => Verb::Redirect(element.text.trim().to_owned()),
        other => Verb::Other(other.to_owned()),
    }
}

fn parameter(element: &Element) -> Option<(String, String)> {
    let attribute = |name| element.attributes.get(name).cloned();
    (element.name == "Parameter").then_some(())?;
    Some((attribute("name")?, attribute("value").unwrap_or_default()))
}

/// A dialled number stands in `<Dial>` itself or in its `<Number>` or `<Sip>`.
fn all_text(element: &Element) -> String {
    let own = element.text.trim();
    let nested = element.children.iter().map(|child| child.text.trim());
    [own]
        .into_iter()
        .chain(nested)
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn read(mut text: &str) -> Option<Element> {
    let mut open: Vec<Element> = vec![Element::default()];
    while let Some(start) = text.find('<') {
        let (before, markup) = text.split_at(start);
        open.last_mut()?.text += &unescape(before);
        if let Some(rest) = markup.strip_prefix("<![CDATA[") {
            let (data, rest) = rest.split_once("]]>")?;
            open.last_mut()?.text += data;
            text = rest;
        } else if let Some(rest) = markup.strip_prefix("<!--") {
            text = rest.split_once("-->")?.1;
        } else if markup.starts_with("<?") || markup.starts_with("<!") {
            text = markup.split_once('>')?.1;
        } else if let Some(rest) = markup.strip_prefix("</") {
            text = rest.split_once('>')?.1;
            let closed = open.pop()?;
            open.last_mut()?.children.push(closed);
        } else {
            let (tag, rest) = split_tag(&markup[1..])?;
            text = rest;
            let (tag, is_empty) = tag
                .strip_suffix('/')
                .map_or((tag, false), |tag| (tag, true));
            let element = read_tag(tag)?;
            if is_empty {
                open.last_mut()?.children.push(element);
            } else {
                open.push(element);
            }
        }
        if open.len() > DEEPEST {
            return None;
        }
    }
    // Everything but the document itself must have been closed.
    let [document] = open.as_mut_slice() else {
        return None;
    };
    document.children.pop()
}

/// Splits at the `>` that ends a tag, which may also stand within quotes.
fn split_tag(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let end = text.find(|character| match (quote, character) {
        (None, '>') => true,
        (None, '"' | '\'') => {
            quote = Some(character);
            false
        }
        (Some(open), _) if open == character => {
            quote = None;
            false
        }
        _ => false,
    })?;
    Some((&text[..end], &text[end + 1..]))
}

fn read_tag(tag: &str) -> Option<Element> {
    let (name, mut rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let mut element = Element {
        name: name.to_owned(),
        ..Element::default()
    };
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quote = after
            .chars()
            .next()
            .filter(|character| matches!(character, '"' | '\''))?;
        let (value, after) = after[1..].split_once(quote)?;
        element
            .attributes
            .insert(name.trim().to_owned(), unescape(value));
        rest = after;
    }
    Some(element)
}

/// Replaces entities; one that is not known stays as it is.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out += before;
        match after
            .split_once(';')
            .and_then(|(entity, after)| Some((character(entity)?, after)))
        {
            Some((character, after)) => {
                out.push(character);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_with_stream_parameters_and_action_is_read() {
        let verbs = parse(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <Response><!-- to the agent -->
              <Connect action="https://voice.example.com/twilio/action?a=1&amp;b=2">
                <Stream url="wss://voice.example.com/twilio/media">
                  <Parameter name="token" value="&lt;x&#62;&quot;&#x27;&amp;amp;" />
                  <Parameter name='gt' value='a > b'/>
                </Stream>
              </Connect>
              <Hangup/>
            </Response>"#,
        );
        let connect = Verb::Connect {
            action: Some("https://voice.example.com/twilio/action?a=1&b=2".into()),
            stream: "wss://voice.example.com/twilio/media".into(),
            parameters: BTreeMap::from([
                ("token".into(), "<x>\"'&amp;".into()),
                ("gt".into(), "a > b".into()),
            ]),
        };
        assert_eq!(verbs, Some(vec![connect, Verb::HangUp]));
    }

    #[test]
    fn endings_are_read() {
        let verbs = |text| parse(text).expect("a response");
        assert_eq!(
            verbs("<Response><Dial><Sip>sip:desk@example.com;x=1</Sip></Dial></Response>"),
            [Verb::Dial("sip:desk@example.com;x=1".into())]
        );
        assert_eq!(
            verbs("<Response><Dial>+15550123</Dial></Response>"),
            [Verb::Dial("+15550123".into())]
        );
        assert_eq!(
            verbs("<Response><Reject reason=\"busy\"/></Response>"),
            [Verb::Reject("busy".into())]
        );
        assert_eq!(
            verbs("<Response><Say>Tea & biscuits</Say></Response>"),
            [Verb::Other("Say".into())]
        );
        assert_eq!(verbs("<Response/>"), []);
    }

    #[test]
    fn what_is_not_twiml_is_refused() {
        for text in [
            "",
            "hello",
            "<html></html>",
            "<Response><Connect></Response>",
            "<Response",
            "<Response><Hangup a=b/></Response>",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000)), None);
    }
}

//! `<Dial>`: sending a caller to someone else, and learning how that went.
//!
//! Its `action` leads to `POST /twilio/action` again, which then carries `DialCallStatus`; without it Twilio would hang up on
//! a caller whom nobody has taken.
//!
//! What the agent sends along becomes headers of the INVITE, if the call goes to a SIP address: Twilio takes them from the
//! address's own query. A telephone line has no place for them.

use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use super::webhook::escape;
use crate::engine::call::event::Transfer;
use crate::io::ingress::handoff;

/// The most bytes of headers in the query of an address: Twilio's own limit.
const LARGEST_QUERY: usize = 1_024;
/// What stands for itself in the headers of a SIP address (RFC 3261 §25.1, `unreserved`).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*');

/// How a `<Dial>` ended, by the webhook's `DialCallStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialled {
    /// Someone took the call, and it is over.
    Taken,
    /// Nobody took it, for this reason.
    Failed(&'static str),
}

impl Dialled {
    /// Reads the status; `None` if there is none, and so nothing has been dialled yet.
    pub(super) fn of(status: &str) -> Option<Self> {
        Some(match status {
            "" => return None,
            "completed" | "answered" => Self::Taken,
            "busy" => Self::Failed("busy"),
            "no-answer" => Self::Failed("no-answer"),
            "failed" => Self::Failed("failed"),
            "canceled" => Self::Failed("canceled"),
            // Whatever Twilio may yet think of: a caller who is brought back for nothing can hang up.
            _ => Self::Failed("unknown"),
        })
    }
}

/// Whether the caller has gone, by the webhook's `CallStatus`: then what we answer is done by nobody.
pub(super) fn is_gone(status: &str) -> bool {
    matches!(
        status,
        "completed" | "canceled" | "failed" | "busy" | "no-answer"
    )
}

/// The TwiML that sends a caller there and reports to `action`.
pub(super) fn twiml(transfer: &Transfer, action: &str) -> String {
    let action = escape(action);
    let target = if transfer.to.starts_with("sip:") {
        format!("<Sip>{}</Sip>", escape(&with_headers(transfer)))
    } else {
        escape(&transfer.to)
    };
    format!(r#"<Response><Dial action="{action}">{target}</Dial></Response>"#)
}

/// The address with what goes along as headers in its query, as many as fit.
fn with_headers(transfer: &Transfer) -> String {
    let mut address = transfer.to.clone();
    let mut room = LARGEST_QUERY;
    let mut separator = if address.contains('?') { '&' } else { '?' };
    for (name, value) in handoff::headers(&transfer.metadata) {
        let value = utf8_percent_encode(&value, ENCODED);
        let header = format!("{separator}{name}={value}");
        let Some(left) = room.checked_sub(header.len()) else {
            continue;
        };
        room = left;
        address.push_str(&header);
        separator = '&';
    }
    address
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    const ACTION: &str = "https://a.example/twilio/action";

    #[test]
    fn numbers_and_addresses_are_dialled() {
        for (to, expected) in [
            ("+18005551212", "+18005551212"),
            ("sip:a@b?x=1&y=2", "<Sip>sip:a@b?x=1&amp;y=2</Sip>"),
        ] {
            assert_eq!(
                twiml(&transfer(to, Value::Null), ACTION),
                format!("<Response><Dial action=\"{ACTION}\">{expected}</Dial></Response>")
            );
        }
    }

    #[test]
    fn what_goes_along_becomes_headers_of_a_sip_call_alone() {
        let metadata = json!({"account_id": "4 2&<x>", "vip": true, "list": [1]});
        let twiml = twiml(&transfer("sip:a@b;transport=tcp", metadata.clone()), ACTION);
        let (_, rest) = twiml.split_once("<Sip>").expect("an address");
        let (address, _) = rest.split_once("</Sip>").expect("its end");
        assert!(
            address.starts_with(
                "sip:a@b;transport=tcp?X-Tandem-Account-Id=4%202%26%3Cx%3E&amp;\
                 X-Tandem-Vip=true&amp;User-to-User=7b"
            ),
            "{address}"
        );
        assert!(address.ends_with("%3Bencoding%3Dhex"), "{address}");
        let number = super::twiml(&transfer("+1800", metadata), ACTION);
        assert!(number.ends_with(">+1800</Dial></Response>"), "{number}");
    }

    #[test]
    fn nothing_in_what_goes_along_leaves_the_query() {
        let metadata = json!({"a": "x\r\nRoute: <sip:evil>?&;</Sip>", "b": "ä%41"});
        let address = with_headers(&transfer("sip:a@b?c=d", metadata));
        let (_, query) = address.split_once('?').expect("a query");
        let fields: Vec<&str> = query.split('&').collect();
        assert_eq!(fields.len(), 4, "{query}");
        assert_eq!(fields[0], "c=d");
        // Encoded once as in any other header, and once more as part of an address.
        assert_eq!(fields[2], "X-Tandem-B=%25C3%25A4%252541");
        assert!(
            query
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"%&=-_.!~*".contains(&byte)),
            "{query}"
        );
    }

    #[test]
    fn headers_that_do_not_fit_are_left_out_whole() {
        let many: Value = (0..9)
            .map(|at| (format!("k{at}"), json!("v".repeat(250))))
            .collect();
        let address = with_headers(&transfer("sip:a@b", many));
        let (address, query) = address.split_once('?').expect("a query");
        assert_eq!(address, "sip:a@b");
        assert!(query.len() < LARGEST_QUERY, "{}", query.len());
        assert_eq!(query.split('&').count(), 3);
        assert!(query.split('&').all(|field| field.len() > 250));
    }

    #[test]
    fn every_status_of_a_dial_is_understood() {
        assert_eq!(Dialled::of(""), None);
        for taken in ["completed", "answered"] {
            assert_eq!(Dialled::of(taken), Some(Dialled::Taken));
        }
        for failure in ["busy", "no-answer", "failed", "canceled"] {
            assert_eq!(Dialled::of(failure), Some(Dialled::Failed(failure)));
        }
        assert_eq!(Dialled::of("exploded"), Some(Dialled::Failed("unknown")));
        assert!(is_gone("completed") && !is_gone("in-progress") && !is_gone(""));
    }

    fn transfer(to: &str, metadata: Value) -> Transfer {
        Transfer {
            to: to.to_owned(),
            metadata,
        }
    }
}

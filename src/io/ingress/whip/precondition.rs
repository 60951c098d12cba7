//! `If-Match` (RFC 9110 §13.1.1): which ICE session a change is for.

use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;

use super::refused::Refused;

/// What a request says of the ICE session that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Whichever there is: it is to be replaced (RFC 9725 §4.3.3).
    Any,
    /// One with one of these entity tags, which have their quotes. Weak ones are left out: they never match here.
    Tags(Vec<String>),
}

impl Precondition {
    /// What the headers say.
    ///
    /// # Errors
    /// If they say nothing (RFC 6585 §3).
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let mut tags = Vec::new();
        let mut is_there = false;
        for value in headers.get_all(IF_MATCH) {
            is_there = true;
            // A header that cannot be read names no session of ours.
            let Ok(text) = value.to_str() else { continue };
            // The example in RFC 9725 §4.3.3 has the asterisk in quotes, so clients do too. It is no tag of ours.
            if matches!(text.trim(), "*" | "\"*\"") {
                return Ok(Self::Any);
            }
            strong_tags(text, &mut tags);
        }
        is_there
            .then_some(Self::Tags(tags))
            .ok_or(Refused::PreconditionRequired)
    }

    /// Whether the ICE session of this entity tag is meant.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn check(&self, etag: &str) -> Result<(), Refused> {
        let is_met = match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag == etag),
        };
        is_met.then_some(()).ok_or(Refused::PreconditionFailed)
    }
}

/// Adds the strong tags of a list, up to where it can no longer be read.
fn strong_tags(list: &str, tags: &mut Vec<String>) {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let Some((opaque, behind)) = tag.strip_prefix('"').and_then(|tag| tag.split_once('"'))
        else {
            return;
        };
        if !is_weak {
            tags.push(format!("\"{opaque}\""));
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_header_names_tags_or_any_session() {
        let tags = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| (*tag).to_owned());
            Ok(Precondition::Tags(tags.collect()))
        };
        for (values, precondition) in [
            (&[][..], Err(Refused::PreconditionRequired)),
            (&["*"], Ok(Precondition::Any)),
            (&[" \"*\" "], Ok(Precondition::Any)),
            (&["\"a\""], tags(&["\"a\""])),
            (&["\"a\", \"b,c\""], tags(&["\"a\"", "\"b,c\""])),
            (&["\"a\"", "\"b\""], tags(&["\"a\"", "\"b\""])),
            (&["W/\"a\",\"b\""], tags(&["\"b\""])),
            (&["\"\""], tags(&["\"\""])),
            (&["a"], tags(&[])),
            (&["\"a"], tags(&[])),
            (&[""], tags(&[])),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            assert_eq!(Precondition::of(&headers), precondition, "{values:?}");
        }
    }
}

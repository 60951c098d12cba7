//! Where a clip is to come from, as an agent writes it.

use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use crate::io::web::Url;

/// The longest name of a file, in bytes: what file systems take.
const LONGEST_NAME: usize = 255;
/// The longest name of an object in Google's storage, in bytes.
const LONGEST_OBJECT: usize = 1_024;
/// What stands for itself in a path (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where a clip is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A server; whether it may be asked is decided when it is.
    Web(Url),
    /// Google's storage: the path and query of the object.
    Object(String),
    /// A file among the prompts, by its name alone.
    Prompt(String),
}

impl Source {
    /// Reads what the agent wrote.
    ///
    /// # Errors
    /// One sentence if it is nothing that is fetched.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let scheme = uri.split_once("://").map(|(scheme, rest)| {
            let scheme = scheme.to_ascii_lowercase();
            (scheme, rest)
        });
        match scheme {
            Some((scheme, rest)) if scheme == "gs" => object(rest),
            Some((scheme, _)) if scheme == "https" || scheme == "http" => {
                let url = Url::parse(uri).map_err(|error| format!("it is no URL: {error}"))?;
                Ok(Self::Web(url))
            }
            Some(_) => Err("only https:// and gs:// are fetched from".to_owned()),
            None => prompt(uri),
        }
    }
}

/// `BUCKET/OBJECT`; an object's name may be almost anything.
fn object(text: &str) -> Result<Source, String> {
    let wrong = || "it must be gs://BUCKET/OBJECT".to_owned();
    let (bucket, object) = text.split_once('/').ok_or_else(wrong)?;
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_bucket = bucket.len() <= 222
        && is_edge(bucket.as_bytes().first())
        && is_edge(bucket.as_bytes().last())
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    // A URL's path would lose the last two, however they are written.
    let is_object = (1..=LONGEST_OBJECT).contains(&object.len())
        && !object.contains(char::is_control)
        && !matches!(object, "." | "..");
    if !is_bucket || !is_object {
        return Err(wrong());
    }
    let object = utf8_percent_encode(object, ENCODED);
    Ok(Source::Object(format!(
        "/storage/v1/b/{bucket}/o/{object}?alt=media"
    )))
}

/// One segment of a path, which leads nowhere else.
fn prompt(name: &str) -> Result<Source, String> {
    let is_name = (1..=LONGEST_NAME).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'));
    if !is_name {
        return Err("it is neither a URL nor the name of a file among the prompts".to_owned());
    }
    Ok(Source::Prompt(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_objects_and_prompts_are_told_apart() {
        let url = Url::parse("https://a.example/x.wav?y=1").expect("a URL");
        assert_eq!(
            Source::parse("https://a.example/x.wav?y=1"),
            Ok(Source::Web(url))
        );
        assert!(matches!(
            Source::parse("HTTP://10.0.0.1/x"),
            Ok(Source::Web(_))
        ));
        assert_eq!(
            Source::parse("wait a moment.wav"),
            Ok(Source::Prompt("wait a moment.wav".to_owned()))
        );
        assert_eq!(
            Source::parse("gs://my-bucket/a folder/ä#1?.wav"),
            Ok(Source::Object(
                "/storage/v1/b/my-bucket/o/a%20folder%2F%C3%A4%231%3F.wav?alt=media".to_owned()
            ))
        );
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for uri in [
            "",
            ".",
            "..",
            "../x.wav",
            "a/../b.wav",
            "/etc/passwd",
            "..\\x",
            ".hidden",
            "a\0.wav",
            "a\nb",
            "ftp://a.example/x",
            "file:///etc/passwd",
            "data://x",
            "https://",
            "https://a b/",
            "gs://",
            "gs://bucket",
            "gs://bucket/",
            "gs://bucket/..",
            "gs://../object",
            "gs://.b/object",
            "gs://b@evil/object",
            "gs://b%2f/object",
            "gs:///object",
        ] {
            assert!(Source::parse(uri).is_err(), "{uri:?}");
        }
        assert!(Source::parse(&"x".repeat(LONGEST_NAME + 1)).is_err());
        assert!(Source::parse(&format!("gs://b1/{}", "x".repeat(LONGEST_OBJECT + 1))).is_err());
    }

    #[test]
    fn an_object_stays_inside_its_bucket() {
        for name in ["../../b/other/o/x", "./x", "a/./b", "%2e%2e"] {
            let Ok(Source::Object(path)) = Source::parse(&format!("gs://bucket/{name}")) else {
                panic!("{name}");
            };
            let url = Url::parse(&format!("https://storage.googleapis.com{path}")).expect("a URL");
            assert!(
                url.path().starts_with("/storage/v1/b/bucket/o/"),
                "{name}: {url}"
            );
            assert_eq!(url.query(), Some("alt=media"), "{name}");
        }
    }
}

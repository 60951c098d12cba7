//! Where a caller calls: the TARGET of the command line.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use rsipstack::sip::Uri;

/// A gateway's ingress.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// `ws(s)://HOST/twilio/media`: be Twilio.
    Twilio(Url),
    /// `sip:USER@HOST:PORT`, by UDP or with `;transport=tcp`: be a telephone.
    Sip(Uri),
    /// `http(s)://HOST/whip/ROUTE`: be a browser.
    Whip(Url),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text
            .split_once(':')
            .map_or("", |(scheme, _)| scheme)
            .to_ascii_lowercase();
        let url = || Url::parse(text).map_err(|error| format!("“{text}” is not a URL: {error}"));
        match scheme.as_str() {
            "ws" | "wss" => {
                let url = url()?;
                if url.path().ends_with("/media") {
                    Ok(Self::Twilio(url))
                } else {
                    Err(format!("the path of “{text}” should end in /twilio/media"))
                }
            }
            "sip" => Uri::try_from(text)
                .map(Self::Sip)
                .map_err(|error| format!("“{text}” is not a SIP URI: {error}")),
            "sips" => Err(format!("“{text}”: TLS is not spoken, use sip:")),
            "http" | "https" => Ok(Self::Whip(url()?)),
            _ => Err(format!(
                "“{text}” is none of ws(s)://HOST/twilio/media, sip:USER@HOST:PORT, http(s)://HOST/whip/ROUTE"
            )),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twilio(url) | Self::Whip(url) => url.fmt(formatter),
            Self::Sip(uri) => uri.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_tells_the_ingress() {
        assert!(matches!(
            "ws://127.0.0.1:8080/twilio/media".parse(),
            Ok(Target::Twilio(_))
        ));
        assert!(matches!(
            "sip:1000@127.0.0.1:5060".parse(),
            Ok(Target::Sip(_))
        ));
        assert!(matches!(
            "https://voice.example.com/whip/support".parse(),
            Ok(Target::Whip(_))
        ));
    }

    #[test]
    fn a_wrong_target_is_refused_with_a_hint() {
        assert!("sips:1000@127.0.0.1".parse::<Target>().is_err());
        assert!("sip:".parse::<Target>().is_err());
        let error = "ws://127.0.0.1:8080/"
            .parse::<Target>()
            .expect_err("no media path");
        assert!(error.contains("/twilio/media"), "{error}");
        assert!("voice.example.com".parse::<Target>().is_err());
    }
}

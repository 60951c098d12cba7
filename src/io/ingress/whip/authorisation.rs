//! Bearer tokens (RFC 6750): who may call which route. A token is never logged, not even a wrong one.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::Choice;
use subtle::ConstantTimeEq;

use super::refused::Refused;
use crate::config;

/// Checks that the request may do something on `route`.
pub(super) fn check(
    config: &config::Webrtc,
    route: &str,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    if !config.require_token {
        return Ok(());
    }
    let brought = bearer(headers).ok_or(Refused::MissingToken)?;
    // Every token is compared, and to its end: how long that takes tells nothing about how right a guess was.
    let mut is_known = Choice::from(0);
    let mut is_right = Choice::from(0);
    for known in &config.tokens {
        let same = known.token.reveal().as_bytes().ct_eq(brought);
        let fits = known.route.as_deref().is_none_or(|of| of == route);
        is_known |= same;
        is_right |= same & Choice::from(u8::from(fits));
    }
    match (bool::from(is_right), bool::from(is_known)) {
        (true, _) => Ok(()),
        (false, true) => Err(Refused::WrongRoute),
        (false, false) => Err(Refused::UnknownToken),
    }
}

/// The token behind `Bearer` (RFC 9110 §11.4: the scheme has no case), if there is one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Secret;
    use crate::config::WhipToken;

    #[test]
    fn a_token_opens_its_route_and_no_other() {
        let config = config(true);
        for (header, route, result) in [
            (Some("Bearer everywhere"), "shop", Ok(())),
            (Some("bearer  everywhere "), "other", Ok(())),
            (Some("Bearer of-the-shop"), "shop", Ok(())),
            (Some("Bearer shared"), "shop", Ok(())),
            (Some("Bearer shared"), "desk", Ok(())),
            (Some("Bearer shared"), "other", Err(Refused::WrongRoute)),
            (
                Some("Bearer of-the-shop"),
                "other",
                Err(Refused::WrongRoute),
            ),
            (Some("Bearer of-the-shop"), "Shop", Err(Refused::WrongRoute)),
            (
                Some("Bearer of-the-sho"),
                "shop",
                Err(Refused::UnknownToken),
            ),
            (
                Some("Bearer of-the-shop2"),
                "shop",
                Err(Refused::UnknownToken),
            ),
            (Some("Bearer "), "shop", Err(Refused::MissingToken)),
            (Some("Bearer"), "shop", Err(Refused::MissingToken)),
            (Some("Basic everywhere"), "shop", Err(Refused::MissingToken)),
            (None, "shop", Err(Refused::MissingToken)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            }
            assert_eq!(
                check(&config, route, &headers),
                result,
                "{header:?} {route}"
            );
        }
    }

    #[test]
    fn where_no_token_is_required_any_will_do() {
        let mut headers = HeaderMap::new();
        assert_eq!(check(&config(false), "shop", &headers), Ok(()));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer wrong"));
        assert_eq!(check(&config(false), "shop", &headers), Ok(()));
    }

    fn config(require_token: bool) -> config::Webrtc {
        let token = |route: Option<&str>, token: &str| WhipToken {
            route: route.map(str::to_owned),
            token: Secret::new(token.to_owned()),
        };
        config::Webrtc {
            require_token,
            tokens: vec![
                token(None, "everywhere"),
                token(Some("shop"), "of-the-shop"),
                token(Some("shop"), "shared"),
                token(Some("desk"), "shared"),
            ],
            ..config::Webrtc::default()
        }
    }
}

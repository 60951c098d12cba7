//! The STUN and TURN servers that a caller is told (RFC 9725 §4.6), with a password of his own for the latter.
//!
//! The password lasts for `webrtc.turn_credential_life`. The TURN server can work it out from the user name and the secret
//! that it shares with us, so that nobody has to tell it: coturn's `use-auth-secret`, which others have taken over.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::Mac;
use sha1::Sha1;

use crate::config;

/// The values of the `Link` headers, one for each server. `user` tells callers apart at the TURN server.
pub(super) fn links(config: &config::Webrtc, user: &str, now: SystemTime) -> Vec<HeaderValue> {
    let stun = config.stun_servers.iter();
    let stun = stun.map(|uri| format!(r#"<{uri}>; rel="ice-server""#));
    let credentials = config.turn_secret.as_ref().map(|secret| {
        let expiry = (now + config.turn_credential_life)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let username = format!("{}:{user}", expiry.as_secs());
        let credential = password(secret, &username);
        format!(r#"username="{username}"; credential="{credential}"; credential-type="password""#)
    });
    let turn = config.turn_servers.iter();
    // Without a secret there are no TURN servers; the configuration does not allow it.
    let turn = turn.filter_map(|uri| {
        let credentials = credentials.as_ref()?;
        Some(format!(r#"<{uri}>; rel="ice-server"; {credentials}"#))
    });
    stun.chain(turn)
        .filter_map(|link| HeaderValue::try_from(link).ok())
        .collect()
}

fn password(secret: &config::Secret, username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn every_server_is_a_link_and_turn_has_credentials_that_expire() {
        let config = config::Webrtc {
            stun_servers: vec!["stun:stun.example.com".into()],
            turn_servers: vec![
                "turn:turn.example.com:3478?transport=udp".into(),
                "turns:turn.example.com?transport=tcp".into(),
            ],
            turn_secret: Some(Secret::new("north".into())),
            turn_credential_life: Duration::from_secs(600),
            ..config::Webrtc::default()
        };
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        // printf 1700000600:caller | openssl dgst -sha1 -hmac north -binary | base64
        let credentials = r#"username="1700000600:caller"; credential="FOfseFWXn4OPY/mLfBbxtl5SRUQ="; credential-type="password""#;
        assert_eq!(
            links(&config, "caller", now),
            [
                r#"<stun:stun.example.com>; rel="ice-server""#.to_owned(),
                format!(
                    r#"<turn:turn.example.com:3478?transport=udp>; rel="ice-server"; {credentials}"#
                ),
                format!(
                    r#"<turns:turn.example.com?transport=tcp>; rel="ice-server"; {credentials}"#
                ),
            ]
        );
    }

    #[test]
    fn without_servers_there_is_no_link() {
        let config = config::Webrtc::default();
        assert_eq!(links(&config, "caller", UNIX_EPOCH).len(), 0);
    }
}

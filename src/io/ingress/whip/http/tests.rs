//! Requests to the router, and what they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use axum::body::Body;
use axum::body::to_bytes;
use axum::http::Method;
use axum::http::header::ACCESS_CONTROL_ALLOW_HEADERS;
use axum::http::header::ACCESS_CONTROL_ALLOW_METHODS;
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::header::ACCESS_CONTROL_EXPOSE_HEADERS;
use axum::http::header::ACCESS_CONTROL_MAX_AGE;
use axum::http::header::RETRY_AFTER;
use axum::http::header::VARY;
use axum::http::header::WWW_AUTHENTICATE;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::config;
use crate::config::Secret;
use crate::config::WhipToken;
use crate::io::ingress::Admission;
use crate::io::ingress::Exchange;
use crate::io::ingress::Refusal;
use crate::io::ingress::whip::WhipIngress;
use crate::io::journal::Journal;
use crate::io::leg::Leg;
use crate::io::leg::LegInfo;

/// What a browser offers for a call: one line of audio.
const OFFER: &str = "v=0\r\n\
    o=- 5228595038118931041 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 110\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:EsAw\r\n\
    a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 DA:7B:57:DC:28:CE:04:4F:31:79:85:C4:31:67:EB:27:58:29:ED:77:2A:0D:24:AE:ED:AD:30:BC:BD:F1:9C:02\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=sendrecv\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:110 telephone-event/48000\r\n";
/// The candidates that follow.
const TRICKLE: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    a=mid:0\r\n\
    a=ice-ufrag:EsAw\r\n\
    a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n\
    a=candidate:1 1 udp 2122260223 127.0.0.1 61764 typ host\r\n\
    a=end-of-candidates\r\n";
/// A new ICE session.
const RESTART: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    a=mid:0\r\n\
    a=ice-ufrag:ysXw\r\n\
    a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";

#[tokio::test]
async fn an_offer_is_answered_with_a_session() {
    let gateway = Gateway::new(config::Webrtc {
        stun_servers: vec!["stun:stun.example.com".into()],
        turn_servers: vec!["turn:turn.example.com?transport=udp".into()],
        turn_secret: Some(Secret::new("north".into())),
        ..config::Webrtc::default()
    });
    let answer = gateway.send(post("/whip/shop").sdp(OFFER)).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header(CONTENT_TYPE), "application/sdp");
    assert!(answer.body.starts_with("v=0\r\n"));
    assert_eq!(
        answer.header(ACCEPT_PATCH),
        "application/trickle-ice-sdpfrag"
    );
    let etag = answer.header(ETAG);
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2);
    let id = answer.header(LOCATION).strip_prefix("/whip/shop/");
    // 128 bit take 22 characters at least.
    assert!(id.is_some_and(|id| id.len() >= 22 && !id.contains('/')));
    let links: Vec<&str> = answer.headers(LINK).collect();
    let [stun, turn] = links[..] else {
        panic!("two servers: {links:?}");
    };
    assert_eq!(stun, r#"<stun:stun.example.com>; rel="ice-server""#);
    let begins = r#"<turn:turn.example.com?transport=udp>; rel="ice-server"; username=""#;
    assert!(turn.starts_with(begins), "{turn}");
    assert!(turn.ends_with(r#"; credential-type="password""#), "{turn}");
    assert!(!turn.contains(id.expect("an id")), "{turn}");
}

#[tokio::test]
async fn the_location_has_the_path_of_the_public_url_and_is_escaped() {
    let gateway = Gateway {
        public_url: "https://voice.example.com/calls/v1",
        ..Gateway::default()
    };
    let answer = gateway
        .send(post("/whip/%2B1%20800%2F555").sdp(OFFER))
        .await;
    let location = answer.header(LOCATION);
    let begins = "/calls/v1/whip/%2B1%20800%2F555/";
    assert!(location.starts_with(begins), "{location}");
    assert_eq!(gateway.admitted().to, "+1 800/555");
}

#[tokio::test]
async fn session_parameters_come_from_the_form_and_the_url_and_only_those_that_are_allowed() {
    let gateway = Gateway::new(config::Webrtc {
        parameters: ["customer", "campaign"].map(str::to_owned).to_vec(),
        ..config::Webrtc::default()
    });
    let json = r#"{"customer": 17, "secret": "x"}"#;
    let request =
        post("/whip/shop?campaign=spring%20sale&customer=18&other=1").form(OFFER, Some(json));
    assert_eq!(gateway.send(request).await.status, StatusCode::CREATED);
    let expected = [("campaign", "spring sale"), ("customer", "17")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(gateway.admitted().parameters, BTreeMap::from(expected));

    let alone = post("/whip/shop?customer=19").sdp(OFFER);
    assert_eq!(gateway.send(alone).await.status, StatusCode::CREATED);
    let expected = BTreeMap::from([("customer".to_owned(), "19".to_owned())]);
    assert_eq!(gateway.admitted().parameters, expected);
}

#[tokio::test]
async fn candidates_are_taken_for_the_present_ice_session_alone() {
    let gateway = Gateway::default();
    let (path, etag) = gateway.session("/whip/shop").await;
    let change = |etag: &str| patch_to(&path).header("if-match", etag).fragment(TRICKLE);
    let taken = gateway.send(change(&etag)).await;
    assert_eq!(taken.status, StatusCode::NO_CONTENT);
    assert_eq!(taken.body, "");
    assert!(taken.all.get(ETAG).is_none());
    let several = format!("\"other\", {etag}");
    let several = gateway.send(change(&several)).await;
    assert_eq!(several.status, StatusCode::NO_CONTENT);

    for other in ["\"other\"", &format!("W/{etag}"), etag.trim_matches('"')] {
        let refused = gateway.send(change(other)).await;
        refused.is_problem(412, "precondition_failed");
    }
    let none = gateway.send(patch_to(&path).fragment(TRICKLE)).await;
    none.is_problem(428, "precondition_required");
}

#[tokio::test]
async fn an_ice_restart_is_answered_with_our_side_and_a_new_entity_tag() {
    let gateway = Gateway::default();
    // As RFC 9110 has it, and as the example in RFC 9725 does. A session each: a restart may still be under way.
    for any in ["*", "\"*\""] {
        let (path, old) = gateway.session("/whip/shop").await;
        let request = patch_to(&path).header("if-match", any).fragment(RESTART);
        let answer = gateway.send(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.header(CONTENT_TYPE),
            "application/trickle-ice-sdpfrag"
        );
        let ours = Fragment::parse(answer.body.as_bytes()).expect("a fragment");
        assert!(ours.credentials.is_some() && ours.candidates > 0 && ours.ended);
        assert!(!answer.body.contains("ysXw"), "ours, not theirs");
        let begins = "a=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
        assert!(answer.body.starts_with(begins), "{}", answer.body);
        let new = answer.header(ETAG);
        assert_ne!(new, old);
        let trickle = format!("{RESTART}a=end-of-candidates\r\n");
        let change = |etag: &str| patch_to(&path).header("if-match", etag).fragment(&trickle);
        let late = gateway.send(change(&old)).await;
        late.is_problem(412, "precondition_failed");
        let taken = gateway.send(change(new)).await;
        assert_eq!(taken.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn new_credentials_make_a_restart_of_the_present_ice_session_too() {
    let gateway = Gateway::default();
    let (path, old) = gateway.session("/whip/shop").await;
    let change =
        |etag: &str, fragment: &str| patch_to(&path).header("if-match", etag).fragment(fragment);
    // Of one alone nothing is made.
    for half in [
        "a=ice-ufrag:ysXw\r\n",
        "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n",
    ] {
        let name = half.split_once(':').expect("a value").0;
        let lines = TRICKLE.split_inclusive("\r\n");
        let mixed: String = lines
            .map(|line| if line.starts_with(name) { half } else { line })
            .collect();
        let taken = gateway.send(change(&old, &mixed)).await;
        assert_eq!(taken.status, StatusCode::NO_CONTENT, "{mixed}");
    }
    let answer = gateway.send(change(&old, RESTART)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let ours = Fragment::parse(answer.body.as_bytes()).expect("a fragment");
    assert!(ours.credentials.is_some() && ours.candidates > 0);
    let new = answer.header(ETAG);
    assert_ne!(new, old);
    let late = gateway.send(change(&old, RESTART)).await;
    late.is_problem(412, "precondition_failed");
    // The same once more changes nothing.
    let again = gateway.send(change(new, RESTART)).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_restart_without_credentials_is_none() {
    let gateway = Gateway::default();
    let (path, etag) = gateway.session("/whip/shop").await;
    let request = patch_to(&path).header("if-match", "*");
    let answer = gateway
        .send(request.fragment("a=end-of-candidates\n"))
        .await;
    answer.is_problem(422, "restart_without_credentials");
    // The session goes on as it was.
    let request = patch_to(&path).header("if-match", &etag).fragment(TRICKLE);
    assert_eq!(gateway.send(request).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_change_that_is_no_fragment_is_refused() {
    let gateway = Gateway::default();
    let (path, etag) = gateway.session("/whip/shop").await;
    let request = || patch_to(&path).header("if-match", &etag);
    let answer = gateway.send(request().sdp(TRICKLE)).await;
    answer.is_problem(415, "unsupported_change");
    assert_eq!(
        answer.header(ACCEPT_PATCH),
        "application/trickle-ice-sdpfrag"
    );
    for text in ["", "v=0\r\n", "a=candidate:nonsense\r\n"] {
        let answer = gateway.send(request().fragment(text)).await;
        answer.is_problem(400, "bad_fragment");
    }
    let long = format!("a=x:{}\r\n", "x".repeat(MAX_BODY_BYTES));
    let answer = gateway.send(request().fragment(&long)).await;
    answer.is_problem(413, "body_too_large");
}

#[tokio::test]
async fn a_session_ends_once() {
    let gateway = Gateway::default();
    let (path, _) = gateway.session("/whip/shop").await;
    let delete = || Call::new(Method::DELETE, &path).header("if-match", "\"outdated\"");
    let ended = gateway.send(delete().empty()).await;
    assert_eq!(ended.status, StatusCode::OK);
    let again = gateway.send(delete().empty()).await;
    again.is_problem(404, "no_session");
    let change = patch_to(&path).header("if-match", "*").fragment(RESTART);
    gateway.send(change).await.is_problem(404, "no_session");
}

#[tokio::test]
async fn a_session_ends_however_many_restarts_are_waiting() {
    let gateway = Gateway::default();
    let (path, _) = gateway.session("/whip/shop").await;
    let mut under_way = 0;
    for number in 0..10 {
        let fragment = RESTART.replace("ysXw", &format!("ysX{number}"));
        let restart = patch_to(&path).header("if-match", "*").fragment(&fragment);
        let answer = gateway.send(restart).await;
        under_way += usize::from(answer.status == StatusCode::CONFLICT);
    }
    // The leg runs on this thread, and has not had its turn yet.
    assert!(under_way > 0 && gateway.places() == 1);
    let ended = gateway.send(Call::new(Method::DELETE, &path).empty()).await;
    assert_eq!(ended.status, StatusCode::OK);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.places(), 0);
}

#[tokio::test]
async fn a_session_is_found_under_its_own_route_alone() {
    let gateway = Gateway::default();
    let (path, etag) = gateway.session("/whip/shop").await;
    let elsewhere = path.replace("/shop/", "/desk/");
    for path in [&elsewhere, "/whip/shop/0", "/whip/shop/%FF"] {
        let delete = gateway.send(Call::new(Method::DELETE, path).empty()).await;
        delete.is_problem(404, "no_session");
        let change = patch_to(path).header("if-match", &etag).fragment(TRICKLE);
        gateway.send(change).await.is_problem(404, "no_session");
    }
    let ended = gateway.send(Call::new(Method::DELETE, &path).empty()).await;
    assert_eq!(ended.status, StatusCode::OK);
}

#[tokio::test]
async fn an_offer_must_be_sdp() {
    let gateway = Gateway::default();
    for kind in ["text/plain", "application/json", ""] {
        let request = post("/whip/shop").header("content-type", kind).body(OFFER);
        let answer = gateway.send(request).await;
        answer.is_problem(415, "unsupported_offer");
        assert_eq!(
            answer.header(ACCEPT_POST),
            "application/sdp, multipart/form-data"
        );
    }
    let answer = gateway.send(post("/whip/shop").sdp("hello")).await;
    answer.is_problem(400, "bad_offer");
    let answer = gateway.send(post("/whip/shop").form("hello", None)).await;
    answer.is_problem(400, "bad_offer");
    let form = post("/whip/shop").form(OFFER, Some("[1]"));
    let answer = gateway.send(form).await;
    answer.is_problem(400, "bad_parameters");
    let form = post("/whip/shop").header("content-type", "multipart/form-data; boundary=x");
    let answer = gateway.send(form.body("--y\r\n")).await;
    answer.is_problem(400, "bad_multipart");
}

#[tokio::test]
async fn an_offer_that_cannot_be_taken_is_refused_for_its_own_reason() {
    let gateway = Gateway::default();
    for (from, to, status, reason) in [
        ("m=audio", "m=video", 406, "no_audio"),
        (
            "m=audio",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nm=audio",
            422,
            "several_audio_lines",
        ),
        ("UDP/TLS/RTP", "TCP/TLS/RTP", 406, "unknown_transport"),
        ("111 0 8 110", "110", 406, "no_common_codec"),
        ("a=fingerprint", "a=x", 406, "no_fingerprint"),
        ("a=ice-ufrag", "a=x", 406, "no_ice_credentials"),
        ("a=rtcp-mux", "a=x", 406, "no_rtcp_mux"),
    ] {
        assert!(OFFER.contains(from));
        let answer = gateway
            .send(post("/whip/shop").sdp(&OFFER.replace(from, to)))
            .await;
        answer.is_problem(status, reason);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let gateway = Gateway::default();
    let long = format!("{OFFER}a=x:{}\r\n", "x".repeat(MAX_BODY_BYTES));
    for request in [
        post("/whip/shop").sdp(&long),
        post("/whip/shop").form(&long, None),
        post("/whip/shop").form(OFFER, Some(&format!("\"{long}\""))),
    ] {
        let answer = gateway.send(request).await;
        answer.is_problem(413, "body_too_large");
    }
    assert!(gateway.admitted.lock().expect("no panic").is_none());
}

#[tokio::test]
async fn a_token_opens_its_route_for_every_request() {
    let gateway = Gateway::new(config::Webrtc {
        require_token: true,
        tokens: vec![
            token(None, "everywhere"),
            token(Some("shop"), "of-the-shop"),
        ],
        ..config::Webrtc::default()
    });
    let bearer = |call: Call, token: Option<&str>| match token {
        Some(token) => call.header("authorization", &format!("Bearer {token}")),
        None => call,
    };
    let desk = bearer(post("/whip/desk"), Some("everywhere")).sdp(OFFER);
    let desk = gateway.send(desk).await;
    assert_eq!(desk.status, StatusCode::CREATED);
    let desk = desk.header(LOCATION).to_owned();
    for (token, status, reason, challenge) in [
        (None, 401, "missing_token", r#"Bearer realm="whip""#),
        (
            Some("wrong"),
            401,
            "unknown_token",
            r#"Bearer realm="whip", error="invalid_token""#,
        ),
        (
            Some("of-the-shop"),
            403,
            "wrong_route",
            r#"Bearer realm="whip", error="insufficient_scope""#,
        ),
    ] {
        for request in [
            bearer(post("/whip/desk"), token).sdp(OFFER),
            bearer(patch_to(&desk), token).fragment(TRICKLE),
            bearer(Call::new(Method::DELETE, &desk), token).empty(),
        ] {
            let answer = gateway.send(request).await;
            answer.is_problem(status, reason);
            assert_eq!(answer.header(WWW_AUTHENTICATE), challenge);
        }
    }
    // A token for a route does not reach another's session by naming its own route.
    let trick = desk.replace("/desk/", "/shop/");
    let trick = bearer(Call::new(Method::DELETE, &trick), Some("of-the-shop"));
    let trick = gateway.send(trick.empty()).await;
    trick.is_problem(404, "no_session");

    let shop = bearer(post("/whip/shop"), Some("of-the-shop")).sdp(OFFER);
    assert_eq!(gateway.send(shop).await.status, StatusCode::CREATED);
    let end = bearer(Call::new(Method::DELETE, &desk), Some("everywhere"));
    assert_eq!(gateway.send(end.empty()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_a_good_token_the_body_is_not_even_read() {
    let gateway = Gateway::new(config::Webrtc {
        require_token: true,
        tokens: vec![token(None, "everywhere")],
        ..config::Webrtc::default()
    });
    let unread = futures_util::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<String, std::io::Error>>> { panic!("it was read") },
    );
    let call = post("/whip/shop").header("content-type", SDP_TYPE);
    let request = call.request.body(Body::from_stream(unread));
    let answer = gateway.send(request.expect("a request")).await;
    answer.is_problem(401, "missing_token");
}

#[tokio::test]
async fn who_comes_at_a_bad_time_is_told_when_to_come_again() {
    for (refusal, status, reason, again) in [
        (Refusal::Busy, 503, "busy", Some("5")),
        (Refusal::Draining, 503, "draining", Some("10")),
        (Refusal::NoRoute, 404, "no_route", None),
    ] {
        let gateway = Gateway {
            refusal: Some(refusal),
            ..Gateway::default()
        };
        let answer = gateway.send(post("/whip/shop").sdp(OFFER)).await;
        answer.is_problem(status, reason);
        let told = answer.all.get(RETRY_AFTER);
        assert_eq!(told.map(HeaderValue::as_bytes), again.map(str::as_bytes));
    }
}

#[tokio::test]
async fn a_route_that_nobody_could_have_configured_is_none() {
    let gateway = Gateway::default();
    let long = format!("/whip/{}", "x".repeat(MAX_ROUTE_BYTES + 1));
    for path in [long.as_str(), "/whip/a%00b", "/whip/a%0D%0Ab", "/whip/%FF"] {
        let answer = gateway.send(post(path).sdp(OFFER)).await;
        answer.is_problem(404, "no_route");
    }
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let gateway = Gateway::default();
    let (session, _) = gateway.session("/whip/shop").await;
    for (path, methods, allowed) in [
        (
            "/whip/shop",
            &[Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE][..],
            "GET, HEAD, OPTIONS, POST",
        ),
        (
            session.as_str(),
            &[Method::POST, Method::PUT],
            "DELETE, GET, HEAD, OPTIONS, PATCH",
        ),
    ] {
        for method in methods {
            let answer = gateway.send(Call::new(method.clone(), path).empty()).await;
            answer.is_problem(405, "method_not_allowed");
            assert_eq!(answer.header(ALLOW), allowed);
        }
        // RFC 9725 §4.1: there is nothing to see, and that is no error.
        for method in [Method::GET, Method::HEAD] {
            let answer = gateway.send(Call::new(method, path).empty()).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
            assert_eq!(answer.body, "");
        }
    }
}

#[tokio::test]
async fn options_tell_what_each_resource_takes() {
    let gateway = Gateway::default();
    let (session, _) = gateway.session("/whip/shop").await;
    let options = |path: &str| Call::new(Method::OPTIONS, path).empty();
    let answer = gateway.send(options("/whip/shop")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(ACCEPT_POST), "application/sdp");
    assert_eq!(answer.header(ALLOW), "GET, HEAD, OPTIONS, POST");
    assert_eq!(answer.headers(LINK).count(), 0);
    assert!(answer.all.get(ACCESS_CONTROL_ALLOW_ORIGIN).is_none());
    let answer = gateway.send(options(&session)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let type_of_changes = "application/trickle-ice-sdpfrag";
    assert_eq!(answer.header(ACCEPT_PATCH), type_of_changes);
}

#[tokio::test]
async fn options_tell_the_ice_servers_to_those_who_may_call() {
    let gateway = Gateway::new(config::Webrtc {
        require_token: true,
        tokens: vec![token(None, "everywhere")],
        stun_servers: vec!["stun:stun.example.com".into()],
        ..config::Webrtc::default()
    });
    let options = || Call::new(Method::OPTIONS, "/whip/shop");
    let stranger = gateway.send(options().empty()).await;
    assert_eq!(stranger.status, StatusCode::OK);
    assert_eq!(stranger.headers(LINK).count(), 0);
    let friend = options().header("authorization", "Bearer everywhere");
    let friend = gateway.send(friend.empty()).await;
    assert_eq!(friend.headers(LINK).count(), 1);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_read_the_answer() {
    let page = "https://www.example.com";
    let gateway = Gateway::new(config::Webrtc {
        allowed_origins: vec!["https://other.example.com".into(), page.into()],
        require_token: true,
        tokens: vec![token(None, "everywhere")],
        ..config::Webrtc::default()
    });
    // Browsers ask without the token.
    for (path, methods) in [
        ("/whip/shop", "GET, HEAD, OPTIONS, POST"),
        ("/whip/shop/id", "DELETE, GET, HEAD, OPTIONS, PATCH"),
    ] {
        let question = Call::new(Method::OPTIONS, path)
            .header("origin", page)
            .header("access-control-request-method", "POST");
        let answer = gateway.send(question.empty()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), page);
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_METHODS), methods);
        assert_eq!(
            answer.header(ACCESS_CONTROL_ALLOW_HEADERS),
            "Authorization, Content-Type, If-Match"
        );
        assert_eq!(answer.header(ACCESS_CONTROL_MAX_AGE), "3600");
        assert_eq!(answer.header(VARY), "Origin");
    }
    let call = || {
        post("/whip/shop")
            .header("origin", page)
            .header("authorization", "Bearer everywhere")
    };
    for request in [call().sdp(OFFER), call().form(OFFER, None)] {
        let answer = gateway.send(request).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), page);
        let readable = answer.header(ACCESS_CONTROL_EXPOSE_HEADERS);
        for name in ["ETag", "Link", "Location"] {
            assert!(readable.contains(name), "{readable}");
        }
    }
    // Refusals can be read too.
    let refused = post("/whip/shop").header("origin", page).sdp(OFFER);
    let refused = gateway.send(refused).await;
    refused.is_problem(401, "missing_token");
    assert_eq!(refused.header(ACCESS_CONTROL_ALLOW_ORIGIN), page);
    let method = Call::new(Method::PUT, "/whip/shop").header("origin", page);
    let method = gateway.send(method.empty()).await;
    assert_eq!(method.header(ACCESS_CONTROL_ALLOW_ORIGIN), page);
}

#[tokio::test]
async fn a_page_of_another_origin_learns_nothing() {
    let gateway = Gateway::new(config::Webrtc {
        allowed_origins: vec!["https://www.example.com".into()],
        ..config::Webrtc::default()
    });
    for origin in ["https://evil.example", "http://www.example.com", "null"] {
        let question = Call::new(Method::OPTIONS, "/whip/shop")
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        let answer = gateway.send(question.empty()).await;
        for header in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
        ] {
            assert!(answer.all.get(header).is_none(), "{origin}");
        }
        assert_eq!(answer.header(VARY), "Origin");
    }
    let anyone = Gateway::new(config::Webrtc {
        allowed_origins: vec!["*".into()],
        ..config::Webrtc::default()
    });
    let call = post("/whip/shop").header("origin", "null").sdp(OFFER);
    let answer = anyone.send(call).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header(ACCESS_CONTROL_ALLOW_ORIGIN), "*");
}

/// The one request that a browser sends for any page without asking first.
#[tokio::test]
async fn a_form_of_a_page_of_another_origin_takes_no_place() {
    let gateway = Gateway {
        public_url: "https://voice.example.com/calls",
        ..Gateway::default()
    };
    let form = |origin: &str| {
        post("/whip/shop")
            .header("host", "127.0.0.1:8080")
            .header("origin", origin)
            .form(OFFER, None)
    };
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8081"] {
        let answer = gateway.send(form(origin)).await;
        answer.is_problem(403, "foreign_origin");
    }
    assert!(gateway.admitted.lock().expect("no panic").is_none());
    for origin in ["http://127.0.0.1:8080", "https://Voice.example.com"] {
        let answer = gateway.send(form(origin)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{origin}");
    }
}

/// The gateway around the router, as far as requests can see it.
#[derive(Default)]
struct Gateway {
    config: config::Webrtc,
    public_url: &'static str,
    refusal: Option<Refusal>,
    admitted: Arc<Mutex<Option<LegInfo>>>,
    places: Arc<()>,
    router: std::sync::OnceLock<Router>,
}

impl Gateway {
    fn new(config: config::Webrtc) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    async fn send(&self, request: Request) -> Answer {
        let router = self.router.get_or_init(|| {
            let ingress = WhipIngress {
                public_url: self.public_url.to_owned(),
                config: config::Webrtc {
                    listen: vec![([127, 0, 0, 1], 0).into()],
                    ..self.config.clone()
                },
                exchange: Arc::new(Door {
                    refusal: self.refusal,
                    admitted: self.admitted.clone(),
                    places: self.places.clone(),
                }),
            };
            let started = ingress.start(&CancellationToken::new());
            started.expect("a free port").expect("there is a port")
        });
        let response = router.clone().oneshot(request).await.expect("infallible");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, MAX_BODY_BYTES).await.expect("a body");
        Answer {
            status: head.status,
            all: head.headers,
            body: String::from_utf8(body.to_vec()).expect("a text"),
        }
    }

    /// Begins a session: its path and its entity tag.
    async fn session(&self, path: &str) -> (String, String) {
        let answer = self.send(post(path).sdp(OFFER)).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        let location = answer.header(LOCATION).to_owned();
        (location, answer.header(ETAG).to_owned())
    }

    /// Places that are taken.
    fn places(&self) -> usize {
        const OURS: usize = 2;
        Arc::strong_count(&self.places) - OURS
    }

    /// The last call that asked for a place.
    fn admitted(&self) -> LegInfo {
        let mut admitted = self.admitted.lock().expect("no panic");
        admitted.take().expect("a call")
    }
}

struct Door {
    refusal: Option<Refusal>,
    admitted: Arc<Mutex<Option<LegInfo>>>,
    places: Arc<()>,
}

struct Place {
    _counted: Arc<()>,
}

impl Exchange for Door {
    fn accepting(&self) -> bool {
        self.refusal.is_none()
    }

    fn is_draining(&self) -> bool {
        self.refusal == Some(Refusal::Draining)
    }

    fn admit(&self, info: &LegInfo) -> Result<Box<dyn Admission>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        *self.admitted.lock().expect("no panic") = Some(info.clone());
        Ok(Box::new(Place {
            _counted: self.places.clone(),
        }))
    }
}

impl Admission for Place {
    fn connect(self: Box<Self>, _: Leg) -> Journal {
        Journal::new()
    }
}

struct Answer {
    status: StatusCode,
    all: HeaderMap,
    body: String,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: HeaderName) -> &str {
        let label = name.to_string();
        let values: Vec<&str> = self.headers(name).collect();
        let [value] = values[..] else {
            panic!("one {label}: {values:?}");
        };
        value
    }

    fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        let values = self.all.get_all(name).into_iter();
        values.map(|value| value.to_str().expect("a text"))
    }

    #[track_caller]
    fn is_problem(&self, status: u16, reason: &str) {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_default();
        assert_eq!(problem["reason"], reason, "{} {}", self.status, self.body);
        assert_eq!(self.status.as_u16(), status);
        assert_eq!(self.header(CONTENT_TYPE), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        let title = self.status.canonical_reason().expect("a known status");
        assert_eq!(problem["title"], title);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|text| text.ends_with('.'))
        );
    }
}

/// A request that is being made.
struct Call {
    request: axum::http::request::Builder,
}

fn post(path: &str) -> Call {
    Call::new(Method::POST, path)
}

fn patch_to(path: &str) -> Call {
    Call::new(Method::PATCH, path)
}

impl Call {
    fn new(method: Method, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path);
        Self { request }
    }

    fn header(self, name: &str, value: &str) -> Self {
        let request = self.request.header(name, value);
        Self { request }
    }

    fn body(self, body: &str) -> Request {
        let body = Body::from(body.to_owned());
        self.request.body(body).expect("a request")
    }

    fn empty(self) -> Request {
        self.body("")
    }

    fn sdp(self, body: &str) -> Request {
        self.header("content-type", "application/sdp").body(body)
    }

    fn fragment(self, body: &str) -> Request {
        let kind = "application/trickle-ice-sdpfrag";
        self.header("content-type", kind).body(body)
    }

    fn form(self, sdp: &str, json: Option<&str>) -> Request {
        let part = |name: &str, kind: &str, content: &str| {
            format!(
                "--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n{content}\r\n"
            )
        };
        let mut body = part("offer", "application/sdp", sdp);
        if let Some(json) = json {
            body.push_str(&part("parameters", "application/json", json));
        }
        body.push_str("--limit--\r\n");
        let kind = "multipart/form-data; boundary=limit";
        self.header("content-type", kind).body(&body)
    }
}

fn token(route: Option<&str>, token: &str) -> WhipToken {
    WhipToken {
        route: route.map(str::to_owned),
        token: Secret::new(token.to_owned()),
    }
}

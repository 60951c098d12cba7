//! The telephone in a browser, `GET /`: one document that needs nothing else and is allowed nothing else.
//!
//! Its style and its script stand in the document, and the Content-Security-Policy names them by their hashes: nothing that
//! finds its way into the page otherwise is run. What the gateway tells the page (its routes, whether a token is wanted) is
//! data in an attribute and never part of the script, so that the hashes are the same for every configuration.
//!
//! The page calls `POST /whip/{route}` and reads the call's events from its data channel.

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::REFERRER_POLICY;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

const PAGE: &str = include_str!("phone/page.html");
const STYLE: &str = include_str!("phone/style.css");
const SCRIPT: &str = include_str!("phone/script.js");

/// What the page is told.
#[derive(Clone, Debug, Serialize)]
pub struct Phone {
    /// The routes to choose from, as they stand in `/whip/{route}`. Empty: the caller types one.
    pub whip_routes: Vec<String>,
    /// Whether calls want a token.
    pub asks_token: bool,
    /// What stands before `/whip` in the addresses that browsers see: the path of `http.public_url`, without a slash at its end.
    pub base_path: String,
}

/// The page, assembled once.
pub fn routes(phone: &Phone) -> Router {
    let page = Bytes::from(document(phone));
    let headers = headers();
    Router::new().route(
        "/",
        get(move || async move { (headers.clone(), page.clone()) }),
    )
}

fn document(phone: &Phone) -> String {
    let settings = serde_json::to_string(phone).expect("strings and a bool are JSON");
    // The settings last: nothing is looked for in what an operator has written.
    PAGE.replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{settings}}", &escaped(&settings))
}

/// Text as it stands in an attribute between quotation marks.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn headers() -> HeaderMap {
    let policy = HeaderValue::try_from(policy()).expect("hashes in base64 are ASCII");
    HeaderMap::from_iter([
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Session parameters stand in the page's address; they are nobody else's business.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static(
                "microphone=(self), screen-wake-lock=(self), camera=(), display-capture=(), geolocation=()",
            ),
        ),
        // Another version of the gateway has another page, and a page is nothing to keep: it is 40 KB.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ])
}

fn policy() -> String {
    [
        "default-src 'none'".to_owned(),
        format!("script-src '{}'", hash(SCRIPT)),
        format!("style-src '{}'", hash(STYLE)),
        "connect-src 'self'".to_owned(),
        // Its icon.
        "img-src data:".to_owned(),
        "base-uri 'none'".to_owned(),
        "form-action 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
        // The script never writes markup, so that no words of a caller or an agent can become any.
        "require-trusted-types-for 'script'".to_owned(),
        "trusted-types 'none'".to_owned(),
    ]
    .join("; ")
}

/// How a policy names an inline script or style (CSP Level 3 §2.3.1).
fn hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_exactly_the_script_and_the_style_that_stand_in_the_page() {
        let page = document(&phone(&["support"]));
        let policy = policy();
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let inline = contents(&page, element);
            assert_eq!(inline.len(), 1, "one {element}");
            let expected = format!("{directive} '{}'", hash(inline[0]));
            assert!(policy.split("; ").any(|each| each == expected), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none'; "));
        assert!(!policy.contains("unsafe"));
    }

    #[test]
    fn a_hash_is_the_one_that_others_compute() {
        // Computed with `openssl dgst -sha256 -binary | base64`.
        assert_eq!(
            hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = document(&phone(&["support"]));
        // The only address is the name of SVG's namespace, in the icon.
        let addresses: Vec<&str> = page
            .match_indices("//")
            .filter(|(at, _)| page[..*at].ends_with("http:") || page[..*at].ends_with("https:"))
            .map(|(at, _)| page[at..].split(['\'', '"']).next().unwrap_or_default())
            .collect();
        assert_eq!(addresses, ["//www.w3.org/2000/svg"]);
        for outside in ["src=", "@import", "url(", "import(", "importScripts"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for link in page.match_indices("href=\"").map(|(at, _)| &page[at + 6..]) {
            assert!(
                link.starts_with('#') || link.starts_with("data:"),
                "{link:.40}"
            );
        }
        // A policy of hashes lets no attribute run or style anything.
        assert!(!page.contains(" style=") && !page.contains(" onclick="));
    }

    #[test]
    fn awkward_names_reach_the_script_as_they_are_and_become_no_markup() {
        let names = [
            r#""><script>alert(1)</script>"#,
            "</html>&amp;'{{script}}{{settings}}",
            "büro \\ \u{2028} \n",
        ];
        let page = document(&phone(&names));
        assert_eq!(contents(&page, "script"), [SCRIPT]);
        let attribute = page
            .split_once("data-settings=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .expect("the attribute")
            .0;
        assert!(!attribute.contains(['<', '>', '\'', '"']), "{attribute}");
        let read: serde_json::Value = serde_json::from_str(&unescaped(attribute)).expect("JSON");
        assert_eq!(read["whip_routes"], serde_json::json!(names));
        assert_eq!(read["asks_token"], true);
        assert_eq!(read["base_path"], "/voice");
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        let page = document(&phone(&["support"]));
        assert!(!page.contains("{{") && !page.contains("}}"));
    }

    #[tokio::test]
    async fn the_page_is_answered_with_its_policy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, routes(&phone(&["support"]))).await });
        let response = reqwest::get(format!("http://{address}/?customer=17"))
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("content-security-policy"), policy());
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        assert!(header("permissions-policy").starts_with("microphone=(self), "));
        assert_eq!(
            response.text().await.expect("a page"),
            document(&phone(&["support"]))
        );
    }

    fn phone(names: &[&str]) -> Phone {
        Phone {
            whip_routes: names.iter().map(|&name| name.to_owned()).collect(),
            asks_token: true,
            base_path: "/voice".to_owned(),
        }
    }

    /// What stands in each element of this name, read as a browser does: up to the first end tag.
    fn contents<'a>(page: &'a str, element: &str) -> Vec<&'a str> {
        page.split(&format!("<{element}>"))
            .skip(1)
            .map(|rest| {
                rest.split(&format!("</{element}"))
                    .next()
                    .unwrap_or_default()
            })
            .collect()
    }

    fn unescaped(text: &str) -> String {
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&#39;", "'")
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
    }
}

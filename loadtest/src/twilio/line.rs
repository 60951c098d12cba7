//! The media stream itself: a websocket on which we are Twilio.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::StreamExt;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::CallIds;
use super::messages;
use super::messages::Writer;
use super::signature;
use super::twiml::Verb;
use super::webhook;
use super::webhook::Ending;
use super::webhook::Instructions;
use crate::line::FromGateway;
use crate::line::Placing;
use crate::line::SetupError;
use crate::line::ToGateway;
use crate::line::causes;

/// How long a handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A gateway that reads nothing for this long has stopped working.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a gateway may take to close the websocket after `stop`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A stream in progress, and what is needed to ask for instructions at its end.
pub(crate) struct TwilioLine {
    socket: Socket,
    writer: Writer,
    ids: CallIds,
    target: Url,
    placing: Placing,
    action: Option<Url>,
    hung_up: bool,
}

impl TwilioLine {
    /// Asks the webhook, connects the stream it names and sends `connected` and `start`.
    pub(crate) async fn place(
        target: &Url,
        placing: &Placing,
        ids: CallIds,
        http: &reqwest::Client,
    ) -> Result<Self, SetupError> {
        let Instructions {
            action,
            stream,
            parameters,
        } = webhook::ask(target, placing, &ids, http).await?;
        let address = if placing.direct {
            webhook::at_host_of(&stream, target)
        } else {
            stream.clone()
        };
        let mut socket = connect(&address, &stream, placing).await?;
        let mut writer = Writer::new(ids.clone());
        for message in [messages::connected(), writer.start(&parameters)] {
            let sent = socket.send(Message::text(message)).await;
            sent.map_err(|error| SetupError::Unreachable {
                what: "websocket",
                why: causes(&error),
            })?;
        }
        Ok(Self {
            socket,
            writer,
            ids,
            target: target.clone(),
            placing: placing.clone(),
            action,
            hung_up: false,
        })
    }

    /// Sends these in order.
    pub(crate) async fn send(&mut self, messages: Vec<ToGateway>) -> Result<(), String> {
        let all = async {
            for message in &messages {
                self.socket
                    .feed(Message::text(self.writer.write(message)))
                    .await?;
            }
            self.socket.flush().await
        };
        match timeout(SEND_TIMEOUT, all).await {
            Ok(sent) => sent.map_err(|error| causes(&error)),
            Err(_) => Err("the gateway has read nothing for 10 s".to_owned()),
        }
    }

    /// The gateway's next word. Pings are answered by the library beneath.
    pub(crate) async fn receive(&mut self) -> FromGateway {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Text(text))) => messages::read(&text, &self.ids.stream),
                Some(Ok(Message::Binary(_))) => {
                    FromGateway::Improper("a binary message".to_owned())
                }
                Some(Ok(Message::Close(frame))) => FromGateway::Closed {
                    code: frame.as_ref().map(|frame| u16::from(frame.code)),
                    reason: frame
                        .map(|frame| frame.reason.to_string())
                        .unwrap_or_default(),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => FromGateway::Lost(causes(&error)),
                None => FromGateway::Lost("the websocket ended without a close".to_owned()),
            };
        }
    }

    /// `stop`, then the websocket's close.
    pub(crate) async fn hang_up(&mut self) {
        self.hung_up = true;
        let goodbye = async {
            self.socket.send(Message::text(self.writer.stop())).await?;
            self.socket.close(None).await?;
            while let Some(message) = self.socket.next().await {
                message?;
            }
            Ok::<_, tungstenite::Error>(())
        };
        // Whether the gateway says goodbye or not, the caller has gone; what it then tells at its admin side is what counts.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// The `<Connect>` action, if the gateway named one.
    pub(crate) async fn after_call(
        &mut self,
        http: &reqwest::Client,
        lasted: Duration,
    ) -> Result<Vec<Verb>, SetupError> {
        let Some(action) = &self.action else {
            return Ok(Vec::new());
        };
        let ending = Ending {
            caller_hung_up: self.hung_up,
            lasted,
        };
        webhook::ask_after(
            action,
            &self.target,
            &self.placing,
            &self.ids,
            &ending,
            http,
        )
        .await
    }
}

/// Connects to `address`; what is signed is the URL that the TwiML gave.
async fn connect(address: &Url, signed: &Url, placing: &Placing) -> Result<Socket, SetupError> {
    let unreachable = |why: String| SetupError::Unreachable {
        what: "websocket",
        why,
    };
    let mut request = address
        .as_str()
        .into_client_request()
        .map_err(|error| unreachable(causes(&error)))?;
    let headers = request.headers_mut();
    headers.insert("User-Agent", HeaderValue::from_static("Twilio.TmeWs/1.0"));
    if let Some(token) = &placing.auth_token {
        let signature = signature::sign(token, signed.as_str(), &[]);
        headers.insert(
            "X-Twilio-Signature",
            HeaderValue::try_from(signature).expect("base64 is a header value"),
        );
    }
    // Nagle's algorithm would hold a frame back until the last one is acknowledged.
    let connecting = connect_async_with_config(request, None, true);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => Err(SetupError::Refused {
            what: "websocket",
            status: reqwest::StatusCode::from_u16(response.status().as_u16()).unwrap_or_default(),
            body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default())
                .trim()
                .to_owned(),
        }),
        Ok(Err(error)) => Err(unreachable(causes(&error))),
        Err(_) => Err(unreachable("no answer within 10 s".to_owned())),
    }
}

//! The connections of a listener, from their acceptance to their end.
//!
//! As `axum::serve` has them, and with what the open internet wants besides: whoever sends no request is let go, and only so
//! many are served at once.

use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// For how long nothing is accepted where the system has no descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);
/// Between two warnings that nobody else is let in.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// What connections may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// How many there may be, websockets included; further ones wait.
    pub(super) connections: usize,
    /// How long the head of a request may take, from the connection's beginning or the response before.
    pub(super) head: Duration,
}

/// Serves `router` until `stopped`; connections that are open then may finish, and those without a request are closed.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stopped: CancellationToken,
) {
    let mut door = Door {
        listener,
        places: Arc::new(Semaphore::new(limits.connections)),
        warned_at: None,
    };
    let tasks = TaskTracker::new();
    while let Some(connection) = stopped.run_until_cancelled(door.next()).await {
        tasks.spawn(attend(
            connection,
            router.clone(),
            limits.head,
            stopped.clone(),
        ));
    }
    drop(door);
    tasks.close();
    tasks.wait().await;
}

/// Answers the requests of one connection, until it is closed or becomes a websocket.
async fn attend(
    connection: Connection,
    router: Router,
    head_within: Duration,
    stopped: CancellationToken,
) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router))
        .with_upgrades();
    let mut serving = pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopped.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection broke off");
    }
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    warned_at: Option<Instant>,
}

impl Door {
    /// The next connection, once there is a place for it.
    async fn next(&mut self) -> Connection {
        let place = self.place().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Connection::new(stream, place),
                // It is over before it has begun.
                Err(error) if is_of_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no HTTP connection can be accepted");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        if self.places.available_permits() == 0
            && self.warned_at.is_none_or(|at| at.elapsed() > WARNING_PAUSE)
        {
            self.warned_at = Some(Instant::now());
            tracing::warn!("HTTP connections wait: as many are open as there may be");
        }
        let place = self.places.clone().acquire_owned().await;
        place.expect("nobody closes the semaphore")
    }
}

/// Whether accepting failed for what the peer did.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// A connection, which keeps its place for as long as it is open, whatever it becomes.
struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        // Media frames are small and urgent: they must not wait to be joined by others.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        Self {
            stream,
            _place: place,
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::WebSocketUpgrade;
    use axum::routing::get;
    use futures_util::SinkExt as _;
    use futures_util::StreamExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;
    use tokio_tungstenite::connect_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    /// Only a failing test waits for it.
    const LONG: Duration = Duration::from_secs(20);
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

    #[tokio::test]
    async fn whoever_sends_no_request_is_let_go() {
        let server = Server::open(100, SHORT).await;
        let unfinished = &REQUEST[..REQUEST.len() - 2];
        let two = REQUEST.repeat(2);
        for (sent, responses) in [("", 0), (unfinished, 0), (REQUEST, 1), (two.as_str(), 2)] {
            let since = Instant::now();
            let mut client = server.client().await;
            client.write_all(sent.as_bytes()).await.expect("sent");
            let received = until_closed(&mut client).await;
            assert!(since.elapsed() >= SHORT, "{sent:?}");
            assert_eq!(received.matches("200 OK").count(), responses, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_head_that_trickles_in_is_not_waited_for() {
        let server = Server::open(100, SHORT).await;
        let (mut reader, mut writer) = server.client().await.into_split();
        let trickle = async {
            for byte in REQUEST.bytes().cycle() {
                // Fails once it is let go.
                let _ = writer.write_all(&[byte]).await;
                sleep(SHORT / 10).await;
            }
        };
        let mut received = Vec::new();
        tokio::select! {
            () = trickle => unreachable!("it goes on for ever"),
            ended = timeout(LONG, reader.read_to_end(&mut received)) => {
                assert!(ended.is_ok(), "it is served for ever");
            }
        }
    }

    #[tokio::test]
    async fn a_websocket_may_be_silent() {
        let server = Server::open(100, SHORT).await;
        let url = format!("ws://{}/socket", server.address);
        let (mut socket, _) = connect_async(url).await.expect("a websocket");
        sleep(3 * SHORT).await;
        socket.send(Message::text("hello")).await.expect("sent");
        let echo = timeout(LONG, socket.next()).await.expect("in time");
        let echo = echo.expect("it is open").expect("a message");
        assert_eq!(echo.into_text().expect("text").as_str(), "hello");
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_wait_for_one_to_close() {
        let server = Server::open(2, LONG).await;
        let url = format!("ws://{}/socket", server.address);
        let websocket = connect_async(url).await.expect("a websocket");
        let _idle = server.client().await;
        let mut third = server.client().await;
        third.write_all(REQUEST.as_bytes()).await.expect("sent");
        let mut byte = [0];
        let early = timeout(SHORT, third.read_exact(&mut byte)).await;
        assert!(early.is_err(), "it is served");
        drop(websocket);
        let served = timeout(LONG, third.read_exact(&mut byte)).await;
        served.expect("in time").expect("a response");
    }

    #[tokio::test]
    async fn when_stopped_requests_are_answered_and_idle_connections_closed() {
        let server = Server::open(100, LONG).await;
        let mut idle = server.client().await;
        idle.write_all(REQUEST.as_bytes()).await.expect("sent");
        let mut byte = [0];
        idle.read_exact(&mut byte).await.expect("a response");
        let mut busy = server.client().await;
        let slow = REQUEST.replace(" / ", " /slow ");
        busy.write_all(slow.as_bytes()).await.expect("sent");
        sleep(SHORT).await;
        server.stopped.cancel();
        until_closed(&mut idle).await;
        assert!(until_closed(&mut busy).await.ends_with("at last"));
        let ended = timeout(LONG, server.task).await;
        ended.expect("in time").expect("no panic");
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    /// A server with a page, one that takes its time, and an echo by websocket.
    struct Server {
        address: SocketAddr,
        stopped: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn open(connections: usize, head: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a free port");
            let address = listener.local_addr().expect("its address");
            let router = Router::new()
                .route("/", get(|| async { "hello" }))
                .route("/slow", get(slow))
                .route("/socket", get(echo));
            let stopped = CancellationToken::new();
            let limits = Limits { connections, head };
            let task = tokio::spawn(serve(listener, router, limits, stopped.clone()));
            Self {
                address,
                stopped,
                task,
            }
        }

        async fn client(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("it listens")
        }
    }

    async fn slow() -> &'static str {
        sleep(3 * SHORT).await;
        "at last"
    }

    async fn echo(upgrade: WebSocketUpgrade) -> axum::response::Response {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                // The test may have ended.
                let _ = socket.send(message).await;
            }
        })
    }

    /// What comes until the server closes.
    async fn until_closed(client: &mut TcpStream) -> String {
        let mut received = Vec::new();
        let read = timeout(LONG, client.read_to_end(&mut received)).await;
        read.expect("in time").expect("it is closed properly");
        String::from_utf8(received).expect("text")
    }
}

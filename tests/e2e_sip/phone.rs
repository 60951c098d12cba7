//! A telephone: a socket for SIP, and the calls that go through it.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::line::Line;
use crate::message::Message;
use crate::message::Request;
use crate::message::branch;
use crate::message::unique;
use crate::world::CallSide;
use crate::world::PATIENCE;
use crate::world::World;

/// PCMU and keys.
pub(crate) const TELEPHONE: &[&str] = &["0 PCMU/8000", "101 telephone-event/8000"];

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
}

/// A telephone.
pub(crate) struct Phone {
    wire: Wire,
    pub(crate) gateway: SocketAddr,
    pub(crate) address: SocketAddr,
}

impl Phone {
    pub(crate) async fn udp(world: &World) -> Self {
        Self::udp_at("127.0.0.1", world).await
    }

    pub(crate) async fn udp_at(host: &str, world: &World) -> Self {
        let socket = UdpSocket::bind((host, 0)).await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        Self {
            wire: Wire::Udp(socket),
            gateway: world.udp,
            address,
        }
    }

    pub(crate) async fn tcp(world: &World) -> Self {
        let stream = TcpStream::connect(world.tcp).await.expect("a connection");
        let address = stream.local_addr().expect("an address");
        Self {
            wire: Wire::Tcp(stream, Vec::new()),
            gateway: world.tcp,
            address,
        }
    }

    fn transport(&self) -> &'static str {
        match self.wire {
            Wire::Udp(_) => "UDP",
            Wire::Tcp(..) => "TCP",
        }
    }

    /// A request outside any call, to `sip:100@gateway`.
    pub(crate) fn request(&self, method: &str) -> Request {
        let (gateway, address) = (self.gateway, self.address);
        let transport = self.transport();
        Request::new(method, &format!("sip:100@{gateway}"))
            .with(
                "Via",
                format!("SIP/2.0/{transport} {address};branch={};rport", branch()),
            )
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:alice@{address}>;tag={}", unique()))
            .with("To", format!("<sip:100@{gateway}>"))
            .with("Call-ID", unique())
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:alice@{address}>"))
            .with("Content-Length", "0")
    }

    /// An INVITE that offers what `line` has.
    pub(crate) fn invite(&self, line: &Line) -> Request {
        self.request("INVITE").sdp(line.describe(TELEPHONE))
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        self.send_bytes(request.text().as_bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => {
                let sent = socket.send_to(bytes, self.gateway).await;
                assert_eq!(sent.expect("sent"), bytes.len());
            }
            Wire::Tcp(stream, _) => stream.write_all(bytes).await.expect("sent"),
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        let message = timeout(PATIENCE, self.read()).await;
        message.expect("in time").expect("the connection stays")
    }

    /// The next message; `None` when the connection is closed.
    pub(crate) async fn read(&mut self) -> Option<Message> {
        match &mut self.wire {
            Wire::Udp(socket) => {
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer).await.expect("received");
                buffer.truncate(length);
                Some(Message::new(String::from_utf8(buffer).expect("text")))
            }
            Wire::Tcp(stream, buffer) => loop {
                if let Some(message) = first_message(buffer) {
                    return Some(message);
                }
                let mut more = [0; 4_096];
                match stream.read(&mut more).await {
                    Ok(0) | Err(_) => return None,
                    Ok(length) => buffer.extend_from_slice(&more[..length]),
                }
            },
        }
    }

    /// The final response to a request with this method; what else comes is passed over.
    pub(crate) async fn answer(&mut self, method: &str) -> Message {
        loop {
            let message = self.next().await;
            if message.status().is_some_and(|status| status >= 200) && message.method() == method {
                return message;
            }
        }
    }

    /// Sends a request and takes its final response.
    pub(crate) async fn ask(&mut self, request: &Request) -> Message {
        self.send(request).await;
        self.answer(&request.method).await
    }

    /// Sends an INVITE that is refused, and confirms the refusal.
    pub(crate) async fn refused(&mut self, invite: &Request) -> Message {
        let answer = self.ask(invite).await;
        assert!(answer.status() >= Some(300), "{}", answer.text);
        self.send(&ack_of_refusal(invite, &answer)).await;
        answer
    }

    /// The first response with this status.
    pub(crate) async fn status(&mut self, status: u16) -> Message {
        loop {
            let message = self.next().await;
            if message.status() == Some(status) {
                return message;
            }
            let is_provisional = message.status().is_some_and(|status| status < 200);
            assert!(is_provisional, "instead of {status}: {}", message.text);
        }
    }

    /// The next request of the gateway with this method; what else comes is passed over.
    pub(crate) async fn asked(&mut self, method: &str) -> Message {
        loop {
            let message = self.next().await;
            if message.status().is_none() && message.method() == method {
                return message;
            }
        }
    }

    /// Answers a request of the gateway.
    pub(crate) async fn reply(&mut self, request: &Message, status: &str, more: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in request.all(name) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let address = self.address;
        text.push_str(&format!(
            "Contact: <sip:alice@{address}>\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        self.send_bytes(text.as_bytes()).await;
    }

    /// Waits for BYE and answers it.
    pub(crate) async fn hung_up(&mut self) -> Message {
        let bye = self.asked("BYE").await;
        self.reply(&bye, "200 OK", "", "").await;
        bye
    }

    /// Makes a call, which the gateway takes, to the point where both can speak.
    pub(crate) async fn call(&mut self, world: &mut World, line: &mut Line) -> (Call, CallSide) {
        let invite = self.invite(line);
        self.call_by(world, line, invite).await
    }

    /// The same with an INVITE of the test's own.
    pub(crate) async fn call_by(
        &mut self,
        world: &mut World,
        line: &mut Line,
        invite: Request,
    ) -> (Call, CallSide) {
        self.send(&invite).await;
        self.status(180).await;
        let mut side = world.leg().await;
        side.answer();
        let answer = self.status(200).await;
        let call = Call::new(invite, &answer);
        self.send(&call.ack()).await;
        side.answered().await;
        if !call.invite.body.is_empty() {
            line.connect(answer.body());
        }
        (call, side)
    }
}

fn first_message(buffer: &mut Vec<u8>) -> Option<Message> {
    let text = std::str::from_utf8(buffer).expect("text");
    let head = text.find("\r\n\r\n")? + 4;
    let length = Message::new(text[..head].to_owned());
    let length: usize = length.need("Content-Length").parse().expect("a number");
    let message = text.get(..head + length)?.to_owned();
    buffer.drain(..message.len());
    Some(Message::new(message))
}

/// The ACK of a final response that is no 2xx: it belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
pub(crate) fn ack_of_refusal(invite: &Request, answer: &Message) -> Request {
    Request::new("ACK", &invite.uri)
        .with("Via", invite.header("Via"))
        .with("Max-Forwards", "70")
        .with("From", invite.header("From"))
        .with("To", answer.need("To"))
        .with("Call-ID", invite.header("Call-ID"))
        .with("CSeq", format!("{} ACK", answer.sequence()))
        .with("Content-Length", "0")
}

/// A call's dialog, as the telephone sees it.
pub(crate) struct Call {
    pub(crate) invite: Request,
    /// With the gateway's tag.
    pub(crate) to: String,
    /// The gateway's Contact.
    pub(crate) target: String,
    pub(crate) sequence: u32,
}

impl Call {
    /// From an INVITE and any response with a tag.
    pub(crate) fn new(invite: Request, answer: &Message) -> Self {
        Self {
            to: answer.need("To").to_owned(),
            target: answer.contact().to_owned(),
            sequence: answer.sequence(),
            invite,
        }
    }

    /// A request within the call.
    pub(crate) fn request(&mut self, method: &str) -> Request {
        self.sequence += 1;
        self.request_numbered(method, self.sequence)
    }

    pub(crate) fn request_numbered(&self, method: &str, sequence: u32) -> Request {
        let via = self.invite.header("Via");
        let (sent_by, _) = via.split_once(";branch=").expect("a branch");
        Request::new(method, &self.target)
            .with("Via", format!("{sent_by};branch={};rport", branch()))
            .with("Max-Forwards", "70")
            .with("From", self.invite.header("From"))
            .with("To", &self.to)
            .with("Call-ID", self.invite.header("Call-ID"))
            .with("CSeq", format!("{sequence} {method}"))
            .with("Contact", self.invite.header("Contact"))
            .with("Content-Length", "0")
    }

    /// The ACK of the latest INVITE.
    pub(crate) fn ack(&self) -> Request {
        self.request_numbered("ACK", self.sequence)
    }
}

//! A telephone's sound: two sockets for RTP and RTCP.

use std::net::IpAddr;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::world::PATIENCE;

/// A telephone's sound.
pub(crate) struct Line {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
    /// Where the gateway hears, once it has said so.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
}

/// An RTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) payload_type: u8,
    pub(crate) is_marked: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0], 0x80, "version 2 and nothing else");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        Self {
            payload_type: bytes[1] & 0x7f,
            is_marked: bytes[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: number(4),
            ssrc: number(8),
            payload: bytes[12..].to_vec(),
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let marker = u8::from(self.is_marked) << 7;
        let mut bytes = vec![0x80, marker | self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

impl Line {
    pub(crate) async fn open() -> Self {
        let socket = || async { UdpSocket::bind("127.0.0.1:0").await.expect("a socket") };
        Self {
            rtp: socket().await,
            rtcp: socket().await,
            remote: None,
            ssrc: rand::random(),
            sequence: rand::random(),
            timestamp: rand::random(),
        }
    }

    fn port(socket: &UdpSocket) -> u16 {
        socket.local_addr().expect("an address").port()
    }

    /// An SDP body with these formats, each written as its number and its rtpmap.
    pub(crate) fn describe(&self, formats: &[&str]) -> String {
        self.describe_as(formats, "RTP/AVP", "sendrecv", "")
    }

    /// The same with all that may be otherwise; `more` are whole lines.
    pub(crate) fn describe_as(
        &self,
        formats: &[&str],
        protocol: &str,
        direction: &str,
        more: &str,
    ) -> String {
        let number = |format: &&str| format.split(' ').next().map(str::to_owned);
        let numbers: Vec<String> = formats.iter().filter_map(number).collect();
        let maps: String = formats
            .iter()
            .map(|format| format!("a=rtpmap:{format}\r\n"))
            .collect();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} {protocol} {}\r\n{maps}a=rtcp:{}\r\na=ptime:20\r\na={direction}\r\n{more}",
            Self::port(&self.rtp),
            numbers.join(" "),
            Self::port(&self.rtcp),
        )
    }

    /// Takes the gateway's address from its SDP.
    pub(crate) fn connect(&mut self, sdp: &str) {
        self.remote = Some(audio_address(sdp));
    }

    /// Sends one packet.
    pub(crate) async fn send(&mut self, payload_type: u8, payload: &[u8], ticks: u32) {
        let packet = self.packet(payload_type, payload, ticks);
        self.send_bytes(&packet.write()).await;
    }

    /// The next packet of our own.
    pub(crate) fn packet(&mut self, payload_type: u8, payload: &[u8], ticks: u32) -> Packet {
        let packet = Packet {
            payload_type,
            is_marked: false,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            payload: payload.to_vec(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        packet
    }

    pub(crate) async fn send_bytes(&self, bytes: &[u8]) {
        let remote = self.remote.expect("the gateway has said where");
        self.rtp.send_to(bytes, remote).await.expect("sent");
    }

    /// The next packet of the gateway.
    pub(crate) async fn receive(&self) -> Packet {
        Packet::read(&self.receive_bytes().await)
    }

    pub(crate) async fn receive_bytes(&self) -> Vec<u8> {
        read(&self.rtp).await
    }

    /// The next RTCP compound of the gateway.
    pub(crate) async fn report(&self) -> Vec<u8> {
        read(&self.rtcp).await
    }

    /// Takes what has come and was not asked for.
    pub(crate) fn drain(&self) -> usize {
        let mut buffer = [0; 2_048];
        std::iter::from_fn(|| self.rtp.try_recv(&mut buffer).ok()).count()
    }
}

async fn read(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await;
    buffer.truncate(length.expect("in time").expect("received"));
    buffer
}

/// Where the audio of an SDP body is heard.
pub(crate) fn audio_address(sdp: &str) -> SocketAddr {
    let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start));
    let host = line("c=IN IP4 ").expect("an address");
    let port = line("m=audio ").and_then(|rest| rest.split(' ').next());
    let host: IpAddr = host.trim().parse().expect("an address");
    SocketAddr::new(host, port.expect("a port").parse().expect("a port"))
}

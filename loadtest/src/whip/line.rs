//! A call by WHIP: placed, held, and ended by either side.

use std::collections::VecDeque;
use std::future;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::Url;
use rtc::rtp::Packet as RtpPacket;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;

use super::answer;
use super::answer::Answer;
use super::codec::Coder;
use super::peer::Happening;
use super::peer::Peer;
use super::session::Session;
use crate::gateway_event;
use crate::gateway_event::GatewayEvent;
use crate::gateway_event::What;
use crate::line::FromGateway;
use crate::line::Network;
use crate::line::Placing;
use crate::line::SetupError;
use crate::line::ToGateway;
use crate::mulaw;
use crate::playout::Packet;
use crate::rtp::Sender;
use crate::stats::ms;

/// From the answer to media: as long as the gateway keeps a place for one who does not connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A goodbye is a datagram, and the last event another; one that is lost comes again within a second.
const PARTING: Duration = Duration::from_secs(2);
/// What a call may bring before its first tick; far more than the gateway says in that time.
const PENDING: usize = 1000;

/// A call in progress.
pub(crate) struct WhipLine {
    /// `None` when it is gone.
    peer: Option<Peer>,
    session: Session,
    answer: Answer,
    coder: Coder,
    sender: Sender,
    pending: VecDeque<FromGateway>,
    /// When the gateway said that the call is over.
    ended_at: Option<Instant>,
    /// Nothing more is expected of it.
    is_over: bool,
}

impl WhipLine {
    /// Calls; when this returns, media may flow. With `interruptible`, Ctrl-C withdraws the offer.
    pub(crate) async fn place(
        target: &Url,
        placing: &Placing,
        network: &Network,
        interruptible: bool,
    ) -> Result<Self, SetupError> {
        let mut line = Self::offer(target, placing, network).await?;
        let mut interrupt = Box::pin(async move {
            let interrupted = interruptible && tokio::signal::ctrl_c().await.is_ok();
            if !interrupted {
                future::pending::<()>().await;
            }
        });
        let connected = tokio::select! {
            biased;
            connected = line.connect() => connected,
            () = &mut interrupt => Err(SetupError::Cancelled),
            () = sleep(CONNECT_TIMEOUT) => Err(not_connected(&format!(
                "no media within {} of the answer",
                ms(CONNECT_TIMEOUT)
            ))),
        };
        if connected.is_err() {
            // That it came to nothing is the fault; how the gateway takes this adds nothing.
            let _ = line.session.delete().await;
        }
        connected.map(|()| line)
    }

    /// Offers a call and withdraws it as soon as it is answered.
    pub(crate) async fn offer_and_withdraw(
        target: &Url,
        placing: &Placing,
        network: &Network,
    ) -> Result<(), SetupError> {
        let line = Self::offer(target, placing, network).await?;
        match line.session.delete().await {
            Ok(StatusCode::OK) => Ok(()),
            Ok(status) => Err(SetupError::NotCancelled(format!(
                "the DELETE was answered with {status}"
            ))),
            Err(why) => Err(SetupError::NotCancelled(why)),
        }
    }

    /// Sends one packet for the frame, or what a key says in its place.
    pub(crate) async fn send(&mut self, messages: Vec<ToGateway>) {
        for message in messages {
            match message {
                ToGateway::Frame(frame) => self.send_frame(&frame).await,
                ToGateway::Digit(key) => self.press(key),
                // RTP has none.
                ToGateway::Mark(_) => {}
            }
        }
    }

    /// Waits for audio or news. Cancel safe.
    pub(crate) async fn receive(&mut self) -> FromGateway {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return message;
            }
            let Some(peer) = self.peer.as_mut().filter(|_| !self.is_over) else {
                return future::pending().await;
            };
            let ended_at = self.ended_at;
            let patience = async {
                match ended_at {
                    Some(ended_at) => sleep_until(ended_at + PARTING).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                happening = peer.next() => self.learn(happening),
                () = patience => {
                    self.is_over = true;
                    let open = format!("the connection was left open for {}", ms(PARTING));
                    self.pending.extend([note(open), FromGateway::HungUp]);
                }
            }
        }
    }

    /// What has come already. Asked before each tick: a packet that came in time is not late because this program is.
    pub(crate) fn received(&mut self) -> Option<FromGateway> {
        while self.pending.is_empty()
            && !self.is_over
            && let Some(happening) = self.peer.as_mut().and_then(Peer::try_next)
        {
            self.learn(happening);
        }
        self.pending.pop_front()
    }

    /// DELETE, then the connection's end; what was not as it should be.
    pub(crate) async fn hang_up(&mut self) -> Result<(), String> {
        let session = self.session.clone();
        let delete = tokio::spawn(async move { session.delete().await });
        let told = timeout(PARTING, self.hear_out()).await.is_ok();
        let status = delete.await.unwrap_or_else(|error| Err(error.to_string()));
        self.is_over = true;
        match status {
            // Who is not found had been hung up on in the same moment.
            Ok(StatusCode::OK | StatusCode::NOT_FOUND) if told => Ok(()),
            Ok(StatusCode::OK) => Err(format!(
                "no event “ended” and no end of the connection within {} of our DELETE",
                ms(PARTING)
            )),
            Ok(status) => Err(format!("our DELETE was answered with {status}")),
            Err(why) => Err(format!("our DELETE was not answered: {why}")),
        }
    }

    /// What the gateway told on its way out.
    pub(crate) fn last_events(&mut self) -> Vec<GatewayEvent> {
        let last = self.pending.drain(..);
        last.filter_map(|message| match message {
            FromGateway::Event(event) => Some(event),
            _ => None,
        })
        .collect()
    }

    /// Closes the connection from our side too.
    pub(crate) async fn after_call(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            peer.close().await;
        }
    }

    /// Goes without a word, as a browser whose machine has lost its network: no DELETE, no goodbye, no answer to anything.
    pub(crate) fn vanish(&mut self) {
        self.peer = None;
    }

    async fn offer(target: &Url, placing: &Placing, network: &Network) -> Result<Self, SetupError> {
        let unreachable = |why| SetupError::Unreachable { what: "offer", why };
        let codec = placing.codec;
        let sender = Sender::new(crate::random(), codec.step());
        let (mut peer, offer) = Peer::new(
            target,
            codec,
            sender.ssrc(),
            placing.faults,
            &network.identity,
        )
        .await
        .map_err(unreachable)?;
        let began = Instant::now();
        let token = placing.token.clone();
        let (session, text) = Session::begin(&network.http, target, token, offer).await?;
        let answered = began.elapsed();
        let answer = answer::read(&text, codec).and_then(|answer| {
            peer.accept(text)?;
            Ok(answer)
        });
        match answer {
            Ok(answer) => Ok(Self {
                peer: Some(peer),
                session,
                answer,
                coder: Coder::new(codec),
                sender,
                pending: VecDeque::from([note(format!("answered after {}", ms(answered)))]),
                ended_at: None,
                is_over: false,
            }),
            Err(why) => {
                // A session of no use need not stay.
                let _ = session.delete().await;
                Err(SetupError::NoMedia(why))
            }
        }
    }

    /// Turns the connection until it is one.
    async fn connect(&mut self) -> Result<(), SetupError> {
        let began = Instant::now();
        while let Some(peer) = &mut self.peer {
            match peer.next().await {
                Happening::Connected => {
                    let connected = format!("connected {} later (ICE, DTLS)", ms(began.elapsed()));
                    self.pending.push_back(note(connected));
                    if !self.answer.has_data_channel {
                        let none = "the gateway takes no data channel: there will be no events";
                        self.pending.push_back(note(none.to_owned()));
                    }
                    return Ok(());
                }
                Happening::Closed => return Err(not_connected("the gateway closed it at once")),
                Happening::Failed(why) => return Err(not_connected(&why)),
                other => self.learn(other),
            }
        }
        Err(not_connected("it is gone"))
    }

    /// Turns the connection until the gateway has told or shown that the call is over.
    async fn hear_out(&mut self) {
        while !self.is_over
            && self.ended_at.is_none()
            && let Some(peer) = &mut self.peer
        {
            let happening = peer.next().await;
            self.learn(happening);
        }
    }

    fn learn(&mut self, happening: Happening) {
        let message = match happening {
            Happening::Connected => note("connected again".to_owned()),
            Happening::Disconnected => note("the gateway answers no checks (ICE)".to_owned()),
            Happening::Packet(packet) => match self.read(&packet) {
                Some(message) => message,
                None => return,
            },
            Happening::Text(text) => match gateway_event::parse(&text) {
                Some(event) => {
                    if matches!(event.what, What::Ended(_)) {
                        self.ended_at = Some(Instant::now());
                    }
                    FromGateway::Event(event)
                }
                None => FromGateway::Improper(format!("an event that is none: {text}")),
            },
            Happening::NoMoreTexts if self.ended_at.is_none() => {
                note("the gateway closed the data channel".to_owned())
            }
            Happening::NoMoreTexts | Happening::Closed => {
                self.is_over = true;
                FromGateway::HungUp
            }
            Happening::Failed(why) => {
                self.is_over = true;
                FromGateway::Lost(why)
            }
        };
        // An end is always told.
        if self.pending.len() < PENDING || self.is_over {
            self.pending.push_back(message);
        }
    }

    /// A packet's audio; `None` for events, which a browser does not hear.
    fn read(&mut self, packet: &RtpPacket) -> Option<FromGateway> {
        let header = &packet.header;
        if self.answer.events == Some(header.payload_type) {
            return None;
        }
        if header.payload_type != self.answer.payload_type {
            let number = header.payload_type;
            let what = format!("a packet of payload type {number}, which was not agreed");
            return Some(FromGateway::Improper(what));
        }
        Some(match self.coder.read(&packet.payload, header.timestamp) {
            Some((audio, timestamp)) => FromGateway::Packet(Packet {
                ssrc: header.ssrc,
                sequence: header.sequence_number,
                timestamp,
                audio,
            }),
            None => FromGateway::Improper("a packet that does not decode".to_owned()),
        })
    }

    async fn send_frame(&mut self, frame: &[u8; mulaw::FRAME]) {
        let Some(peer) = self.peer.as_mut().filter(|_| !self.is_over) else {
            return;
        };
        let Answer {
            payload_type,
            events,
            ..
        } = self.answer;
        let coder = &mut self.coder;
        let packet = self.sender.packet(payload_type, events, |packet| {
            coder.append(frame, packet);
        });
        peer.send(packet).await;
    }

    fn press(&mut self, key: char) {
        if self.answer.events.is_some() {
            self.sender.press(key);
        } else {
            let cannot = "the answer takes no telephone-event: the key is not sent".to_owned();
            self.pending.push_back(FromGateway::Improper(cannot));
        }
    }
}

fn note(text: String) -> FromGateway {
    FromGateway::Note(text)
}

fn not_connected(why: &str) -> SetupError {
    SetupError::Unreachable {
        what: "connection",
        why: why.to_owned(),
    }
}

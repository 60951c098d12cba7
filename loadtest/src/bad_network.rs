//! A bad network between the caller and the gateway: packets are lost, late, and overtaken by those behind them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

/// What the network does to our packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// Which share of them is lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Which share of the rest comes twice, from 0 to 1.
    pub(crate) duplicates: f64,
    /// Each is late by a random time of up to twice this.
    pub(crate) jitter: Duration,
}

/// A network with its faults; the same seed gives the same faults.
pub(crate) struct BadNetwork {
    faults: Faults,
    state: u64,
}

impl BadNetwork {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            // A generator of this kind must not begin with nothing.
            state: seed | 1,
        }
    }

    /// Sends a packet once, or twice, or loses it.
    pub(crate) async fn send(
        &mut self,
        socket: &Arc<UdpSocket>,
        packet: &[u8],
        to: SocketAddr,
    ) -> std::io::Result<()> {
        if self.faults == Faults::default() {
            return socket.send_to(packet, to).await.map(drop);
        }
        if self.random() < self.faults.loss {
            return Ok(());
        }
        let copies = 1 + u8::from(self.random() < self.faults.duplicates);
        for _ in 0..copies {
            let late = self.faults.jitter.mul_f64(2.0 * self.random());
            let (socket, packet) = (socket.clone(), packet.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                // A call that is over by then misses nothing.
                let _ = socket.send_to(&packet, to).await;
            });
        }
        Ok(())
    }

    /// From 0 to 1 (xorshift64*).
    fn random(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn about_the_wanted_share_is_lost_and_the_rest_arrives() {
        let faults = Faults {
            loss: 0.2,
            jitter: Duration::from_millis(5),
            ..Faults::default()
        };
        let arrived = arrivals(faults).await;
        assert!((130..190).contains(&arrived.len()), "{}", arrived.len());
        assert!(!arrived.is_sorted(), "some are overtaken");
    }

    #[tokio::test]
    async fn about_the_wanted_share_comes_twice() {
        let faults = Faults {
            duplicates: 0.1,
            ..Faults::default()
        };
        let mut arrived = arrivals(faults).await;
        assert!((205..240).contains(&arrived.len()), "{}", arrived.len());
        arrived.sort_unstable();
        arrived.dedup();
        assert_eq!(arrived.len(), 200, "none is lost");
    }

    /// What becomes of 200 packets.
    async fn arrivals(faults: Faults) -> Vec<u8> {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        let far = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let to = far.local_addr().expect("an address");
        let mut network = BadNetwork::new(faults, 7);
        for number in 0..200_u8 {
            network.send(&near, &[number], to).await.expect("sent");
        }
        let mut arrived = Vec::new();
        let mut packet = [0; 1];
        let quiet = Duration::from_millis(500);
        while let Ok(got) = tokio::time::timeout(quiet, far.recv_from(&mut packet)).await {
            got.expect("received");
            arrived.push(packet[0]);
        }
        arrived
    }
}

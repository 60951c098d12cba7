//! The UDP socket that the stack is given: everything that comes in passes the [`Gate`] first.

use std::net::SocketAddr;
use std::sync::Arc;

use rsipstack::platform::net::UdpSocket as StackSocket;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;

use super::gate::Datagram;
use super::gate::Gate;
use super::outgoing::outgoing;
use crate::io::clock::now;

/// The largest datagram that IP carries.
const LARGEST_DATAGRAM: usize = 65_535;
/// Datagrams taken without letting other tasks run, so that a flood of strangers does not keep a core for itself.
const BOUND: usize = 64;

/// A socket behind the gate.
pub(super) struct GatedSocket {
    socket: UdpSocket,
    gate: Arc<Gate>,
    /// Only the stack's one reader locks it.
    buffer: Mutex<Box<[u8]>>,
}

impl GatedSocket {
    pub(super) fn new(socket: UdpSocket, gate: Arc<Gate>) -> Self {
        Self {
            socket,
            gate,
            buffer: Mutex::new(vec![0; LARGEST_DATAGRAM].into_boxed_slice()),
        }
    }
}

#[async_trait::async_trait]
impl StackSocket for GatedSocket {
    async fn recv_from(&self, out: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        let mut buffer = self.buffer.lock().await;
        loop {
            for _ in 0..BOUND {
                let (length, source) = self.socket.recv_from(&mut buffer).await?;
                match self.gate.judge(&buffer[..length], source, now()) {
                    // The gate lets nothing through that the stack's buffer would cut.
                    Datagram::Pass(message) if message.len() <= out.len() => {
                        out[..message.len()].copy_from_slice(&message);
                        return Ok((message.len(), source));
                    }
                    Datagram::Answer(answer) => {
                        // A socket that is full loses it, as the network might.
                        let _ = self.socket.try_send_to(&answer, source);
                    }
                    Datagram::Pass(_) | Datagram::Drop => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn send_to(&self, message: &[u8], target: SocketAddr) -> rsipstack::Result<usize> {
        Ok(self.socket.send_to(&outgoing(message), target).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

//! What the calls of one local address share: the stack's endpoint and dialogs, and the way from a dialog to its leg.
//!
//! Each local IP address has an endpoint of its own, for the stack knows only one address to put into Via.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use rsipstack::dialog::DialogId;
use rsipstack::dialog::dialog_layer::DialogLayer;
use rsipstack::sip::Transport;
use rsipstack::transaction::endpoint::EndpointInnerRef;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Shared;
use super::reliable::Prack;
use crate::engine::media::digit::Digit;

/// Signals that may wait for one leg; they are as rare as requests, and a leg takes them at once.
pub(super) const SIGNALS: usize = 16;

/// What the router tells a leg of requests that the stack's dialog does not take.
#[derive(Debug)]
pub(super) enum Signal {
    /// A PRACK with this RAck; `verdict` wants to know what it acknowledges.
    Prack {
        rack: String,
        verdict: oneshot::Sender<Prack>,
    },
    /// A key was pressed, by INFO before the call was answered.
    Digit(Digit),
    /// The caller has said BYE before the call was answered.
    Bye,
}

/// What the calls of one local address share.
pub(super) struct Switchboard {
    /// What all addresses share.
    pub(super) shared: Arc<Shared>,
    /// The address as it is bound; may be unspecified.
    pub(super) address: IpAddr,
    /// Our port for each transport.
    pub(super) ports: Vec<(Transport, u16)>,
    pub(super) endpoint: EndpointInnerRef,
    pub(super) dialogs: DialogLayer,
    /// Requests that may be at work at once.
    pub(super) transactions: Arc<Semaphore>,
    legs: Mutex<HashMap<String, mpsc::Sender<Signal>>>,
}

impl Switchboard {
    pub(super) fn new(
        shared: Arc<Shared>,
        address: IpAddr,
        ports: Vec<(Transport, u16)>,
        endpoint: EndpointInnerRef,
        transactions: usize,
    ) -> Self {
        Self {
            shared,
            address,
            ports,
            dialogs: DialogLayer::new(endpoint.clone()),
            endpoint,
            transactions: Arc::new(Semaphore::new(transactions)),
            legs: Mutex::default(),
        }
    }

    /// Where it listens, as the configuration writes it.
    pub(super) fn listeners(&self) -> impl Iterator<Item = String> {
        self.ports.iter().map(|(transport, port)| {
            let address = std::net::SocketAddr::new(self.address, *port);
            format!("{}:{address}", transport.to_string().to_ascii_lowercase())
        })
    }

    /// Our port for a transport, if we listen by it.
    pub(super) fn port(&self, transport: Transport) -> Option<u16> {
        let known = self.ports.iter().find(|(known, _)| *known == transport);
        known.map(|(_, port)| *port)
    }

    /// Our address as a peer at `towards` sees it.
    pub(super) fn seen_by(&self, towards: IpAddr) -> IpAddr {
        if self.address.is_unspecified() {
            super::address::towards(towards).unwrap_or(self.address)
        } else {
            self.address
        }
    }

    /// Tells the leg of a dialog something; if it is gone or stuck, so is what was to be said.
    pub(super) fn signal(&self, dialog: &DialogId, signal: Signal) {
        let leg = self.legs().get(&dialog.to_string()).cloned();
        if let Some(leg) = leg {
            let _ = leg.try_send(signal);
        }
    }

    /// Makes a leg known under its dialog, until the result is dropped.
    pub(super) fn connect(
        self: &Arc<Self>,
        dialog: DialogId,
    ) -> (Connected, mpsc::Receiver<Signal>) {
        let (sender, receiver) = mpsc::channel(SIGNALS);
        self.legs().insert(dialog.to_string(), sender);
        let connected = Connected {
            board: self.clone(),
            dialog,
        };
        (connected, receiver)
    }

    fn legs(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Signal>>> {
        // Insertions and removals are whole, so a panic elsewhere does not spoil the table.
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leg that is known under its dialog. Dropping it forgets both.
pub(super) struct Connected {
    pub(super) board: Arc<Switchboard>,
    dialog: DialogId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.board.legs().remove(&self.dialog.to_string());
        self.board.dialogs.remove_dialog(&self.dialog);
    }
}

//! Every call: who is let in, who is in, and how everybody leaves.
//!
//! Ingresses come with their calls to the [`Exchange`], which this is. Each call runs in a task of its own, so that a
//! panic ends one call and not the process.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use governor::DefaultDirectRateLimiter;
use governor::Quota;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::config::Limits;
use crate::config::Route;
use crate::engine::call::end::EndReason;
use crate::engine::call::event::Transfer;
use crate::engine::call::event::TurnInput;
use crate::engine::call::notice::Notice;
use crate::engine::destination::Destination;
use crate::io::agents::ConfiguredAgent;
use crate::io::backend::SessionStart;
use crate::io::driver;
use crate::io::driver::Order;
use crate::io::driver::Outcome;
use crate::io::ingress::Admission;
use crate::io::ingress::AfterCall;
use crate::io::ingress::Exchange;
use crate::io::ingress::Refusal;
use crate::io::journal::Journal;
use crate::io::leg::IngressKind;
use crate::io::leg::Leg;
use crate::io::leg::LegInfo;
use crate::io::metrics;
use crate::io::metrics::Alive;
use crate::io::metrics::Object;
use crate::io::metrics::Refused;
use crate::io::telemetry::PhoneNumber;
use crate::io::transfers::Origin;
use crate::io::transfers::Return;
use crate::io::transfers::Transfers;

/// Orders that may wait for a call. It takes them at once, so these are clicks of one moment.
const ORDERS: usize = 4;

/// The registry of calls. Clones share it.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    limits: Limits,
    limiter: DefaultDirectRateLimiter,
    routes: Vec<Route>,
    agents: BTreeMap<String, ConfiguredAgent>,
    draining: AtomicBool,
    table: Mutex<Table>,
    /// Rung whenever a call leaves.
    left: Notify,
}

#[derive(Default)]
struct Table {
    /// Admitted calls, connected or not.
    admitted: usize,
    connected: HashMap<Uuid, Entry>,
    transfers: Transfers,
}

struct Entry {
    summary: Summary,
    began: Instant,
    orders: mpsc::Sender<Order>,
    journal: Journal,
}

/// What operators see of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Our name for it.
    pub id: Uuid,
    /// How it came.
    pub ingress: IngressKind,
    /// The peer's name for it.
    pub external_id: String,
    /// Who calls.
    pub from: String,
    /// Who was dialled.
    pub to: String,
    /// Which agent answers.
    pub agent: String,
    /// Which route chose it.
    pub route: String,
    /// When it began, in seconds since 1970.
    pub began_at: u64,
    /// How long it has lasted, in seconds.
    pub seconds: u64,
}

/// Why an operator's transfer is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefused {
    /// There is no such call in progress.
    #[error("there is no such call in progress")]
    NoSuchCall,
    /// The target is neither a number nor a SIP address.
    #[error(
        "`to` must be a telephone number such as +15550100 or an address such as sip:people@pbx.example.com"
    )]
    BadTarget,
    /// The target is nothing to which Twilio connects its callers.
    #[error("`to` must be digits or sip:USER@HOST: Twilio dials nothing else")]
    NotDialable,
    /// The call has yet to take the orders before this one.
    #[error("the call is busy with other orders")]
    Busy,
}

/// The place of one call. Dropping it unused gives it back.
struct Place {
    calls: Calls,
    route: Route,
    /// What the caller comes back to, if nobody took them elsewhere.
    back: Option<Return>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.calls.table();
        table.admitted -= 1;
        self.calls.show_headroom(&table);
        drop(table);
        self.calls.0.left.notify_waiters();
    }
}

impl Calls {
    /// An empty registry. Every route must name one of `agents`.
    pub fn new(
        limits: Limits,
        routes: Vec<Route>,
        agents: BTreeMap<String, ConfiguredAgent>,
    ) -> Self {
        let per_second =
            std::num::NonZeroU32::new(limits.calls_per_second).unwrap_or(std::num::NonZeroU32::MIN);
        Self(Arc::new(Shared {
            limiter: DefaultDirectRateLimiter::direct(Quota::per_second(per_second)),
            limits,
            routes,
            agents,
            draining: AtomicBool::new(false),
            table: Mutex::default(),
            left: Notify::new(),
        }))
    }

    /// Whether a new call would be let in, as far as can be told without one.
    fn has_room(&self) -> bool {
        !self.is_draining() && self.table().admitted < self.0.limits.calls
    }

    /// Takes a place for a call, or says why there is none.
    fn take_place(&self, info: &LegInfo) -> Result<Place, Refused> {
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        let mut table = self.table();
        let now = Instant::now();
        // Who comes back goes to the agent that they left, whatever the ingress now says of them.
        let back = match info.ingress {
            IngressKind::Twilio => table.transfers.route_back(&info.external_id, now),
            IngressKind::Sip | IngressKind::Whip => None,
        };
        let chosen = || choose(&self.0.routes, info).cloned();
        let route = back.or_else(chosen).ok_or(Refused::NoRoute)?;
        // Asked first: a refused call takes nothing from the budget of those that follow.
        if table.admitted >= self.0.limits.calls {
            return Err(Refused::Full);
        }
        self.0.limiter.check().map_err(|_| Refused::TooFast)?;
        table.admitted += 1;
        self.show_headroom(&table);
        let back = match info.ingress {
            IngressKind::Twilio => table.transfers.come_back(&info.external_id, now),
            IngressKind::Sip | IngressKind::Whip => None,
        };
        Ok(Place {
            calls: self.clone(),
            route,
            back,
        })
    }

    /// Runs an admitted call in a task of its own.
    fn run(&self, place: Place, leg: Leg) -> Journal {
        let journal = Journal::new();
        let id = Uuid::new_v4();
        let Some(agent) = self.0.agents.get(&place.route.agent) else {
            tracing::error!(
                agent = place.route.agent,
                "a route names an agent that does not exist"
            );
            return journal;
        };
        let info = leg.info.clone();
        // A caller who comes back goes on where they were, and the agent knows what was said before.
        let session_id = place.back.as_ref().map_or(id, |back| back.origin.session);
        // It also may have changed the parameters since.
        let parameters = match &place.back {
            Some(_) => Default::default(),
            None => info.parameters.clone(),
        };
        let session = agent.backend.session(SessionStart {
            id: session_id.to_string(),
            caller: info.from.clone(),
            dialled: info.to.clone(),
            ingress: info.ingress.label(),
            parameters,
            output: agent.downlink(info.traits.rate),
        });
        let errands = agent.services.for_call(id.to_string());
        let mut settings = agent.call_settings(
            &info,
            self.0.limits.call_duration,
            place.route.handoff.clone(),
        );
        settings.seed = id.as_fields().0;
        if let Some(Return { reason, .. }) = &place.back {
            let event = settings.transfer_failed_event.clone();
            settings.greeting = Some(TurnInput::Event(event));
            journal.write(Notice::TransferFailed {
                reason: reason.clone(),
            });
        }
        let (orders, ordered) = mpsc::channel(ORDERS);
        let summary = Summary {
            id,
            ingress: info.ingress,
            external_id: info.external_id.clone(),
            from: info.from.clone(),
            to: info.to.clone(),
            agent: place.route.agent.clone(),
            route: place.route.name.clone(),
            began_at: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            seconds: 0,
        };
        let began = Instant::now();
        self.table().connected.insert(
            id,
            Entry {
                summary,
                began,
                orders,
                journal: journal.clone(),
            },
        );
        metrics::call_began(info.ingress);

        let span = tracing::info_span!("call", %id, ingress = info.ingress.label(), external_id = info.external_id);
        let calls = self.clone();
        let written = journal.clone();
        let run = async move {
            let _alive = Alive::new(Object::Call);
            tracing::info!(
                from = %PhoneNumber(&info.from), to = %PhoneNumber(&info.to),
                route = place.route.name, agent = place.route.agent, "a call begins"
            );
            let call = driver::drive(leg, settings, session, errands, journal.clone(), ordered);
            let Outcome {
                reason,
                transfer,
                has_agent,
            } = AssertUnwindSafe(call)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| {
                    tracing::error!("the call's task panicked");
                    Outcome {
                        reason: EndReason::InternalError,
                        transfer: None,
                        has_agent: false,
                    }
                });
            // SIP has transferred by itself, and a browser cannot be sent anywhere: nobody asks afterwards.
            let transfer = match info.ingress {
                IngressKind::Twilio => transfer,
                IngressKind::Sip | IngressKind::Whip => None,
            };
            if let Some(transfer) = transfer {
                let origin = has_agent.then(|| Origin {
                    session: session_id,
                    route: place.route.clone(),
                });
                let transfers = &mut calls.table().transfers;
                if !transfers.add(info.external_id, transfer, origin, Instant::now()) {
                    tracing::warn!("the agent asks for a transfer to what is no telephone number");
                }
            }
            journal.end(reason);
            let lasted = began.elapsed();
            tracing::info!(
                reason = reason.label(),
                seconds = lasted.as_secs_f64(),
                "the call has ended"
            );
            metrics::call_ended(info.ingress, reason, lasted);
            calls.table().connected.remove(&id);
            drop(place);
        };
        tokio::spawn(run.instrument(span));
        written
    }

    /// Every call in progress, the longest first.
    pub fn list(&self) -> Vec<Summary> {
        let mut calls: Vec<Summary> = self
            .table()
            .connected
            .values()
            .map(Entry::summary)
            .collect();
        calls.sort_by_key(|call| (call.began_at, call.id));
        calls
    }

    /// One call in progress.
    pub fn summary(&self, id: Uuid) -> Option<Summary> {
        self.table().connected.get(&id).map(Entry::summary)
    }

    /// The journal of a call in progress.
    pub fn journal(&self, id: Uuid) -> Option<Journal> {
        self.table()
            .connected
            .get(&id)
            .map(|entry| entry.journal.clone())
    }

    /// Ends a call; `false` if there is none.
    pub fn stop(&self, id: Uuid, reason: EndReason) -> bool {
        let table = self.table();
        // A full channel means that somebody else has just said the same: transfers leave a place free.
        let entry = table.connected.get(&id);
        entry
            .map(|entry| entry.orders.try_send(Order::Stop(reason)))
            .is_some()
    }

    /// Has a caller transferred. Whether it comes about can be read in the call's journal.
    ///
    /// # Errors
    /// If it is not even begun.
    pub fn transfer(&self, id: Uuid, transfer: Transfer) -> Result<(), TransferRefused> {
        let table = self.table();
        let entry = table.connected.get(&id);
        let Entry {
            summary, orders, ..
        } = entry.ok_or(TransferRefused::NoSuchCall)?;
        let destination = Destination::parse(&transfer.to).ok_or(TransferRefused::BadTarget)?;
        if summary.ingress == IngressKind::Twilio && !destination.is_dialable() {
            return Err(TransferRefused::NotDialable);
        }
        // The last place is for the order to stop. Orders are given under the table's lock alone, so it stays free.
        if orders.capacity() < 2 {
            return Err(TransferRefused::Busy);
        }
        let ordered = orders.try_send(Order::Transfer(transfer));
        // The call has just come to its end by itself.
        ordered.map_err(|_| TransferRefused::NoSuchCall)
    }

    /// Lets no new call in from now on.
    pub fn start_draining(&self) {
        if !self.0.draining.swap(true, Ordering::SeqCst) {
            let table = self.table();
            self.show_headroom(&table);
            tracing::info!(calls = table.admitted, "draining: no new calls");
        }
    }

    /// Whether new calls are turned away because the gateway is stopping.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// Waits until every call has ended by itself, or ends those that are left after `timeout`; says how many those
    /// were.
    pub async fn drain(&self, timeout: Duration) -> usize {
        /// What a call needs to say goodbye.
        const GOODBYE: Duration = Duration::from_secs(2);
        self.start_draining();
        if tokio::time::timeout(timeout, self.empty()).await.is_ok() {
            return 0;
        }
        let left: Vec<Uuid> = self.table().connected.keys().copied().collect();
        for id in &left {
            self.stop(*id, EndReason::Drained);
        }
        let _ = tokio::time::timeout(GOODBYE, self.empty()).await;
        left.len()
    }

    /// Says how many more calls would be let in. The table is held meanwhile, so the last word is the latest.
    fn show_headroom(&self, table: &Table) {
        let room = match self.is_draining() {
            true => 0,
            false => self.0.limits.calls - table.admitted,
        };
        metrics::headroom(room);
    }

    async fn empty(&self) {
        loop {
            let left = self.0.left.notified();
            if self.table().admitted == 0 {
                return;
            }
            left.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange for Calls {
    fn accepting(&self) -> bool {
        self.has_room()
    }

    fn is_draining(&self) -> bool {
        Self::is_draining(self)
    }

    fn after_call(&self, _: IngressKind, external_id: &str) -> AfterCall {
        let transfer = self.table().transfers.take(external_id, Instant::now());
        transfer.map_or(AfterCall::HangUp, AfterCall::Dial)
    }

    fn after_dial(
        &self,
        _: IngressKind,
        external_id: &str,
        outcome: Result<(), &str>,
    ) -> AfterCall {
        let mut table = self.table();
        match outcome {
            Ok(()) => table.transfers.forget(external_id),
            Err(reason) => {
                if table.transfers.fail(external_id, reason, Instant::now()) {
                    return AfterCall::Return;
                }
            }
        }
        AfterCall::HangUp
    }

    fn admit(&self, info: &LegInfo) -> Result<Box<dyn Admission>, Refusal> {
        match self.take_place(info) {
            Ok(place) => Ok(Box::new(place)),
            Err(reason) => {
                metrics::call_refused(info.ingress, reason);
                tracing::info!(
                    ingress = info.ingress.label(),
                    reason = reason.label(),
                    "a call is refused"
                );
                Err(match reason {
                    Refused::Full | Refused::TooFast => Refusal::Busy,
                    Refused::Draining => Refusal::Draining,
                    Refused::NoRoute => Refusal::NoRoute,
                })
            }
        }
    }
}

impl Admission for Place {
    fn connect(self: Box<Self>, leg: Leg) -> Journal {
        self.calls.clone().run(*self, leg)
    }
}

impl Entry {
    fn summary(&self) -> Summary {
        Summary {
            seconds: self.began.elapsed().as_secs(),
            ..self.summary.clone()
        }
    }
}

/// The route that takes a call: the first that fits. A WHIP call names one in its path, so there the route of that name
/// goes before others that would take any.
fn choose<'a>(routes: &'a [Route], info: &LegInfo) -> Option<&'a Route> {
    let mut fitting = routes.iter().filter(|route| fits(route, info));
    let first = fitting.clone().next();
    match info.ingress {
        IngressKind::Sip | IngressKind::Twilio => first,
        IngressKind::Whip => fitting
            .find(|route| route.to.is_some() || route.name == info.to)
            .or(first),
    }
}

/// Whether a route takes a call: every condition that it has holds.
fn fits(route: &Route, info: &LegInfo) -> bool {
    route.ingress.is_none_or(|ingress| ingress == info.ingress)
        && route.to.as_ref().is_none_or(|to| *to == info.to)
        && route.from.as_ref().is_none_or(|from| *from == info.from)
        && route
            .domain
            .as_ref()
            .is_none_or(|domain| domain.eq_ignore_ascii_case(&info.domain))
        && route.headers.iter().all(|(name, value)| {
            let mut brought = info.headers.iter();
            brought.any(|(brought, with)| brought.eq_ignore_ascii_case(name) && with == value)
        })
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::engine::media::frame::SampleRate;

    #[test]
    fn there_is_room_for_what_would_be_let_in_and_for_nobody_while_draining() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = recorder.handle();
        let shows = |room: usize| {
            let line = format!("tandem_calls_headroom {room}\n");
            assert!(page.render().contains(&line), "{room}: {}", page.render());
        };
        ::metrics::with_local_recorder(&recorder, || {
            let limits = Limits {
                calls: 3,
                ..Limits::default()
            };
            let routes = vec![Route::every_call("all", "local")];
            let calls = Calls::new(limits, routes, BTreeMap::new());
            let info = LegInfo::of_telephone(SampleRate::HZ_8000);
            let first = calls.take_place(&info).expect("there is room");
            shows(2);
            let second = calls.take_place(&info).expect("there is room");
            shows(1);
            drop(first);
            shows(2);
            calls.start_draining();
            shows(0);
            drop(second);
            shows(0);
        });
    }
}

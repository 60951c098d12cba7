//! Where every request goes: a new call, one that is under way, or nowhere.
//!
//! One loop takes transactions from the stack and gives each a task, so that nobody waits for anybody. Requests of a
//! dialog go through the stack's dialog once it is confirmed; before that the stack would leave them unanswered, so
//! they are answered here.

use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::CSeq;
use rsipstack::sip::Header;
use rsipstack::sip::HeadersExt as _;
use rsipstack::sip::Method;
use rsipstack::sip::StatusCode;
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::transaction::Transaction;
use tokio::sync::oneshot;
use tracing::debug;

use super::info_dtmf;
use super::invite;
use super::measure;
use super::message;
use super::message::field;
use super::normalise::Reason;
use super::refused::Refused;
use super::reliable::Prack;
use super::switchboard::Signal;
use super::switchboard::Switchboard;

/// After how many seconds a peer whose request came too early may try again (RFC 3261 §14.2 says 0 to 10).
const RETRY_AFTER_SECONDS: &str = "2";

/// Takes transactions until the endpoint is gone.
pub(super) async fn run(board: Arc<Switchboard>, mut incoming: TransactionReceiver) {
    while let Some(transaction) = incoming.recv().await {
        // What waits here is bounded: a transaction that finds no place is dropped, and its sender tries again.
        let Ok(place) = board.transactions.clone().try_acquire_owned() else {
            measure::refused(Refused::Flood);
            continue;
        };
        let board = board.clone();
        tokio::spawn(async move {
            take(board, transaction).await;
            drop(place);
        });
    }
}

async fn take(board: Arc<Switchboard>, mut transaction: Transaction) {
    let method = transaction.original.method;
    measure::request(&method.to_string());
    let is_in_dialog = transaction
        .original
        .to_header()
        .is_ok_and(|to| matches!(to.tag(), Ok(Some(_))));
    if is_in_dialog {
        in_dialog(&board, transaction).await;
        return;
    }
    match method {
        Method::Invite => invite::take(board, transaction).await,
        Method::Options => options(&board, &mut transaction).await,
        Method::Bye | Method::Info | Method::Update | Method::PRack | Method::Notify => {
            no_such_call(&mut transaction).await;
        }
        _ => not_served(&mut transaction).await,
    }
}

/// Whether we are there for new calls: PBXes and dispatchers ask all the time, most without a user in the address.
async fn options(board: &Switchboard, transaction: &mut Transaction) {
    let (status, mut headers) = if board.shared.exchange.is_draining() {
        (
            StatusCode::ServiceUnavailable,
            vec![field("Retry-After", "60")],
        )
    } else {
        (StatusCode::OK, Vec::new())
    };
    // To someone who has proved nothing yet, no answer that could be larger than the question.
    if !board.shared.gate.asks_for_passwords() {
        headers.push(field("Allow", message::ALLOW));
        headers.push(field("Accept", message::SDP));
        headers.push(field("Supported", message::SUPPORTED));
    }
    answer(transaction, status, headers).await;
}

async fn no_such_call(transaction: &mut Transaction) {
    measure::refused(Refused::NoSuchCall);
    answer(
        transaction,
        StatusCode::CallTransactionDoesNotExist,
        Vec::new(),
    )
    .await;
}

async fn not_served(transaction: &mut Transaction) {
    measure::malformed(Reason::MethodNotServed);
    let allow = field("Allow", message::ALLOW);
    answer(transaction, StatusCode::MethodNotAllowed, vec![allow]).await;
}

async fn in_dialog(board: &Switchboard, mut transaction: Transaction) {
    let Some(Dialog::Invite(dialog)) = board.dialogs.match_dialog(&transaction) else {
        no_such_call(&mut transaction).await;
        return;
    };
    // The stack drops a request that comes after its successor; RFC 3261 §12.2.2 answers it.
    let number = transaction.original.cseq_header().and_then(CSeq::seq);
    let latest = dialog.snapshot().remote_cseq;
    if number.is_ok_and(|number| number < latest) {
        measure::refused(Refused::OldSequence);
        answer(
            &mut transaction,
            StatusCode::ServerInternalError,
            Vec::new(),
        )
        .await;
        return;
    }
    let method = transaction.original.method;
    let is_confirmed = is_confirmed(&dialog).await;
    match method {
        Method::PRack => prack(board, &dialog, &mut transaction).await,
        Method::Bye if dialog.state().can_cancel() => {
            // The stack would end the dialog and leave its INVITE without an answer (RFC 3261 §15.1.2).
            board.signal(&dialog.id(), Signal::Bye);
            answer(&mut transaction, StatusCode::OK, Vec::new()).await;
        }
        Method::Bye => by_the_stack(dialog, transaction).await,
        Method::Invite | Method::Info | Method::Update | Method::Notify | Method::Options
            if is_confirmed =>
        {
            by_the_stack(dialog, transaction).await;
        }
        Method::Invite | Method::Update if has_offer(&transaction) => {
            // Its predecessor is not yet settled (RFC 3261 §14.2, RFC 3311 §5.2).
            measure::refused(Refused::TooEarly);
            let later = field("Retry-After", RETRY_AFTER_SECONDS);
            answer(
                &mut transaction,
                StatusCode::ServerInternalError,
                vec![later],
            )
            .await;
        }
        Method::Info => {
            let body_type = message::body_type(&transaction.original);
            if let Some(digit) = info_dtmf::digit(&body_type, &transaction.original.body) {
                board.signal(&dialog.id(), Signal::Digit(digit));
            }
            answer(&mut transaction, StatusCode::OK, Vec::new()).await;
        }
        Method::Update | Method::Options => {
            answer(&mut transaction, StatusCode::OK, Vec::new()).await;
        }
        _ => not_served(&mut transaction).await,
    }
}

/// Whether the ACK is here. It is taken in another task than what comes right behind it, so a dialog that waits for it is
/// given a moment.
async fn is_confirmed(dialog: &InviteDialog) -> bool {
    const MOMENT: Duration = Duration::from_millis(10);
    const MOMENTS: usize = 20;
    for _ in 0..MOMENTS {
        if !dialog.state().waiting_ack() {
            break;
        }
        tokio::time::sleep(MOMENT).await;
    }
    dialog.state().is_confirmed()
}

fn has_offer(transaction: &Transaction) -> bool {
    transaction.original.method == Method::Invite || !transaction.original.body.is_empty()
}

/// Lets the stack's dialog take a request; what it means for the call arrives as a state of the dialog.
async fn by_the_stack(mut dialog: InviteDialog, mut transaction: Transaction) {
    if let Err(error) = dialog.handle(&mut transaction).await {
        debug!(%error, "a request within a call came to nothing");
    }
}

/// A reliable provisional response has arrived (RFC 3262 §3).
async fn prack(board: &Switchboard, dialog: &InviteDialog, transaction: &mut Transaction) {
    let Some(rack) = message::value(&transaction.original, "RAck") else {
        measure::refused(Refused::BadRAck);
        answer(transaction, StatusCode::BadRequest, Vec::new()).await;
        return;
    };
    let (verdict, judged) = oneshot::channel();
    let rack = rack.to_owned();
    board.signal(&dialog.id(), Signal::Prack { rack, verdict });
    match judged.await {
        Ok(Prack::Acknowledged) => answer(transaction, StatusCode::OK, Vec::new()).await,
        Ok(Prack::Unknown) | Err(_) => no_such_call(transaction).await,
    }
}

/// Answers for good, and stays until the answer has arrived where that takes more than one sending.
pub(super) async fn answer(
    transaction: &mut Transaction,
    status: StatusCode,
    headers: Vec<Header>,
) {
    let is_invite = transaction.original.method == Method::Invite;
    if let Err(error) = transaction.reply_with(status, headers, None).await {
        debug!(%error, "an answer could not be sent");
        return;
    }
    if is_invite {
        while transaction.receive().await.is_some() {}
    }
}

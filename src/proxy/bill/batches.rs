//! The bills of batches. A batch is reserved when it is created. A batch is charged once, at the batch price, when an answer states its
//! usage: its own state, or its results line by line. A later answer charges nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Bill, late::Late};
use crate::{
    body::coding::{ContentEncoding, Decoder},
    clock::Instant,
    config::Api,
    message::AnswerHead,
    policy::limits::Lease,
    provider::{
        Due, Observed, Steps,
        batch::{self, Step},
    },
    proxy::{
        book::{self, Owed, Said},
        enter,
        files::FileKind,
        model::ModelCall,
        payer::{Charge, Payer, Payers},
        pledge::{Order, Pledge},
    },
    usage::Usage,
};

/// Bytes of an answer about a batch or a file that are read.
const ANSWER: usize = 256 * 1024;
/// Bytes of a list of batches that are read: a thousand of them.
const LIST: usize = 4 * 1024 * 1024;

/// What is read of an answer while it passes.
pub(super) struct Seen {
    decoder: Option<Box<Decoder>>,
    form: Form,
}

enum Form {
    /// The answer about a batch or a file.
    Answer(Vec<u8>),
    /// A list of batches.
    List(Vec<u8>),
    /// The results of a batch.
    Results(Box<batch::Results>),
    /// It cannot be read.
    Lost,
}

impl Form {
    fn feed(&mut self, piece: &[u8]) {
        match self {
            Self::Answer(held) if held.len() + piece.len() <= ANSWER => held.extend_from_slice(piece),
            Self::List(held) if held.len() + piece.len() <= LIST => held.extend_from_slice(piece),
            Self::Answer(_) | Self::List(_) => *self = Self::Lost,
            Self::Results(results) => results.feed(piece),
            Self::Lost => {}
        }
    }
}

impl Seen {
    /// The reader of a successful answer; `None`: the call has no part in the life of a batch. `steps`: those of the prices.
    pub fn of(call: &ModelCall, method: &Method, head: &AnswerHead, steps: &Steps) -> Option<Self> {
        // A HEAD, a 304 or a part of the results says nothing of all that was done.
        let is_whole = *method == Method::GET && head.status == StatusCode::OK;
        let form = match call.shape.batch.as_ref()? {
            Step::Results(_) | Step::Content(_) | Step::List if !is_whole => return None,
            Step::List => Form::List(Vec::new()),
            Step::Upload | Step::Create | Step::Ask(_) => Form::Answer(Vec::new()),
            Step::Results(_) => Form::Results(Box::new(batch::Results::new(Api::Anthropic, steps))),
            Step::Content(_) => {
                call.results_of.as_ref()?;
                Form::Results(Box::new(batch::Results::new(Api::OpenAi, steps)))
            }
        };
        Some(match ContentEncoding::of(&head.headers) {
            ContentEncoding::Plain => Self { decoder: None, form },
            ContentEncoding::Known(codings) => Self { decoder: Some(Box::new(Decoder::new(&codings))), form },
            ContentEncoding::Unknown(_) => Self { decoder: None, form: Form::Lost },
        })
    }

    /// Reads the next piece, as it came from the provider.
    pub fn feed(&mut self, piece: &Bytes) {
        let form = &mut self.form;
        let Some(decoder) = &mut self.decoder else { return form.feed(piece) };
        let take = &mut |piece: &[u8]| {
            form.feed(piece);
            true
        };
        if decoder.feed(piece, take).is_err() {
            self.form = Form::Lost;
        }
    }
}

/// Settles a call of a batch's life after the end of its answer. A cut answer tells nothing: the reservation stays.
pub(super) fn settle(bill: &mut Bill, call: &ModelCall, seen: Seen, complete: bool) {
    let files = &bill.ask.proxy.shared.files;
    let provider = bill.provider.clone();
    let steps = bill.ask.worker.live.prices.steps();
    match (call.shape.batch.as_ref(), seen.form) {
        (Some(Step::Upload), Form::Answer(answer)) if complete => {
            let expected = bill.upload.take().and_then(|upload| upload.borrow_mut().take()?.finish());
            if let (Some(id), Some(expected)) = (batch::id(&answer), expected) {
                files.note(&provider, &id, FileKind::Requests(expected.into()));
            }
        }
        (Some(Step::Create), Form::Answer(answer)) if complete => {
            if let Some((id, _)) = batch::state(&answer, steps) {
                let expected = call.batch.as_ref().map(|batch| batch.usage()).unwrap_or_default();
                let prices = &bill.ask.worker.live.prices;
                let expected_cost = call.batch.as_ref().and_then(|batch| batch.cost(prices).ok());
                let order = Order { expected, expected_cost, operation: BATCH, ..bill.order(call) };
                let (payers, lease, id) = (bill.payers.clone(), bill.lease.take(), book::batch(&id));
                bill.pledge(&id, Pledge { payers, lease, order, id: id.clone() });
            }
        }
        (Some(Step::Ask(_)), Form::Answer(answer)) if complete => match batch::state(&answer, steps) {
            Some((id, batch::State::Ended(used))) => bill.ask.proxy.late.put(Late::batch(bill, &id, used)),
            Some((id, batch::State::In(file))) => files.note(&provider, &file, FileKind::ResultsOf(id.into())),
            Some((_, batch::State::GoesOn)) | None => {}
        },
        (Some(Step::List), Form::List(answer)) if complete => {
            for (id, state) in batch::states(&answer, steps) {
                match state {
                    batch::State::Ended(used) => bill.ask.proxy.late.put(Late::listed(bill, &id, used)),
                    batch::State::In(file) => files.note(&provider, &file, FileKind::ResultsOf(id.into())),
                    batch::State::GoesOn => {}
                }
            }
        }
        (Some(Step::Results(id)), Form::Results(results)) if complete => {
            bill.ask.proxy.late.put(Late::batch(bill, id, results.finish()));
        }
        (Some(Step::Content(_)), Form::Results(results)) if complete => {
            if let Some(id) = &call.results_of {
                bill.ask.proxy.late.put(Late::batch(bill, id, results.finish()));
            }
        }
        _ => {}
    }
    if let Some(own) = bill.lease.take() {
        own.keep();
    }
}

/// The operation of a batch, in the word of metrics.
const BATCH: &str = "batch";

impl Bill {
    /// The payers, the reservation and the order of a work that another replica has begun. A kept work has no reservation.
    pub(super) fn abroad(&self, call: &ModelCall, said: Said) -> (Arc<Payers>, Option<Lease>, Order) {
        let order = Order {
            model: said.model.as_deref().map(Arc::from),
            route: said.route.as_str().into(),
            inbound: said.inbound.as_deref().map(Arc::from),
            unattributed: said.unattributed,
            expected: said.expected(),
            ..self.order(call)
        };
        let payer = Payer { kept: said.kept, claimed: said.claimed, ..Payer::named(said.caller.map(Arc::from)) };
        let lease = (!said.kept).then(|| self.ask.proxy.shared.limits.lease_abroad(said.reserved));
        (Payers::led_by(payer).0, lease, order)
    }

    /// Charges a batch that has ended to its payer.
    pub(super) fn settle_batch(&self, call: &ModelCall, used: &batch::Used, owed: Owed) {
        match owed {
            Owed::Here(Due::From(Pledge { payers, lease, order, .. })) => self.conclude_batch(&payers, lease, &order, used),
            Owed::Abroad(said) => {
                let (payers, lease, order) = self.abroad(call, said);
                self.conclude_batch(&payers, lease, &Order { operation: BATCH, ..order }, used);
            }
            Owed::Here(Due::FromWhoAsks) => {
                let observed = Observed { model: used.groups.keys().find_map(|group| group.model.clone()), ..Observed::default() };
                let order = Order { operation: BATCH, expected: Usage::default(), model: None, ..self.order(call) };
                self.conclude_batch(&self.who_asks(call, &observed), None, &order, used);
            }
            Owed::Charged(Some(Pledge { lease: Some(lease), order, .. })) => {
                let all = self.priced(&order, used);
                let (usage, nano_usd) = sum(&all);
                lease.settle_here(usage.total(), nano_usd.unwrap_or(0), Instant::now());
            }
            Owed::Here(Due::Nothing) | Owed::Charged(_) => {}
        }
    }

    /// Writes the charge into all books: metrics and the ledger by model, one charge for the limits, the spend and the log.
    fn conclude_batch(&self, payers: &Arc<Payers>, lease: Option<Lease>, order: &Order, used: &batch::Used) {
        let all = self.priced(order, used);
        if all.is_empty() {
            // Nothing was done: every line was cancelled, has expired or has failed.
            return lease.map_or((), Lease::refund);
        }
        let (usage, nano_usd) = sum(&all);
        let source = all.iter().map(|(observed, _)| observed.source).min().unwrap_or_default();
        let model_of = |observed: &Observed| {
            let named = order.model.clone().or_else(|| observed.model.as_deref().map(Arc::from));
            named.unwrap_or_else(|| "unknown".into())
        };
        let whole = Charge { usage, source, nano_usd, provider: order.provider.clone(), model: model_of(&all[0].0) };
        let payer = self.charge_to(payers, lease, order, &whole);
        for (observed, nano_usd) in &all {
            let model = model_of(observed);
            let order = Order { model: Some(model.clone()), ..order.clone() };
            self.count(&order, observed, *nano_usd);
            let part = Charge { usage: observed.usage, source: observed.source, nano_usd: *nano_usd, model, ..whole.clone() };
            enter::charged(&self.ask, &payer, &order, observed, &part);
        }
    }

    /// The usage of each model with its price. Answers without usage are estimated from the expected usage of all.
    fn priced(&self, order: &Order, used: &batch::Used) -> Vec<(Observed, Option<u64>)> {
        let prices = &self.ask.worker.live.prices;
        let all = used.observed().chain(used.untold(&order.expected));
        all.map(|observed| {
            let nano_usd = prices.charge(order.model.as_deref(), &observed);
            (observed, nano_usd)
        })
        .collect()
    }
}

/// All usage, and all dollars; `None`: no model has a price.
fn sum(all: &[(Observed, Option<u64>)]) -> (Usage, Option<u64>) {
    all.iter().fold((Usage::default(), None), |(usage, nano_usd), (observed, cost)| {
        let nano_usd = match (nano_usd, *cost) {
            (Some(sum), Some(more)) => Some(u64::saturating_add(sum, more)),
            (sum, more) => sum.or(more),
        };
        (usage.plus(&observed.usage), nano_usd)
    })
}

//! Golden transcripts of many answers: the result files of batches, and what a provider says in a session; each with the arithmetic of the
//! provider's own page of prices beside it.
//!
//! A line of the arithmetic is a number of tokens and a price in nano-dollars for one token. The transcripts are texts of the wire formats.

use super::{
    Prices,
    batch::Results,
    meter::Observed,
    session::{FromProvider, Told},
};
use crate::{body::websocket::Part, config::Api};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/golden/", $name)) as &[u8]
    };
}

/// Nano-dollars of lines of tokens and prices.
fn sum(lines: &[(u64, u64)]) -> u64 {
    lines.iter().map(|(tokens, nano)| tokens * nano).sum()
}

/// Nano-dollars and lines of a batch's result file, read in pieces of any size.
fn batch(api: Api, text: &[u8], size: usize) -> (u64, u64, u64) {
    let prices = Prices::new(&[]);
    let mut results = Results::new(api, prices.steps());
    text.chunks(size).for_each(|piece| results.feed(piece));
    let used = results.finish();
    let cost = used.observed().map(|observed| prices.charge(None, &observed).expect("a price")).sum();
    (cost, used.lines, used.untold)
}

#[test]
fn the_results_of_an_openai_batch_cost_half() {
    // Chat, whole; chat with a tool call and 1,024 of 1,500 cached at a half.
    let gpt_4o = sum(&[(229, 2_500), (189, 10_000), (476, 2_500), (1_024, 1_250), (48, 10_000)]);
    // A response: cached at 1/20, written for 30 minutes at 1.25 and for 12 hours at 2.5.
    let sol = sum(&[(1_024, 2_000), (1_024, 100), (1_536, 2_500), (512, 5_000), (253, 10_000)]);
    let embeddings = sum(&[(800, 20)]);
    // A line that was refused and one that has expired cost nothing.
    let billed = gpt_4o / 2 + sol / 2 + embeddings / 2;
    for size in [1, 97, usize::MAX] {
        assert_eq!(batch(Api::OpenAi, golden!("batch_openai.jsonl"), size), (billed, 6, 0), "pieces of {size}");
    }
}

#[test]
fn the_results_of_an_anthropic_batch_cost_half_and_their_searches_all() {
    // Whole; tool calls with 20,000 read at 1/20, 3,000 written for five minutes at 1.25 and 2,000 for an hour at 2.
    let opus = sum(&[(229, 4_000), (189, 20_000), (200, 4_000), (20_000, 200), (3_000, 5_000), (2_000, 8_000), (60, 20_000)]);
    // Bound to the United States: a tenth more.
    let regional = sum(&[(1_000, 4_000), (100, 20_000)]) * 11 / 10;
    let haiku = sum(&[(229, 1_000), (189, 5_000)]);
    // Three searches at $0.01, fetches are free. Lines that failed, were cancelled or have expired cost nothing.
    let billed = opus / 2 + regional / 2 + haiku / 2 + 30_000_000;
    for size in [1, 97, usize::MAX] {
        assert_eq!(batch(Api::Anthropic, golden!("batch_anthropic.jsonl"), size), (billed, 7, 0), "pieces of {size}");
    }
}

/// What the messages of a provider cost, each, in order.
fn session(text: &[u8], size: usize) -> Vec<u64> {
    let (prices, mut heard, mut charged) = (Prices::new(&[]), FromProvider::new(), Vec::new());
    let charge = |observed: &Observed| prices.charge(None, observed).expect("a price");
    for message in text.split(|byte| *byte == b'\n').filter(|message| !message.is_empty()) {
        for piece in message.chunks(size) {
            assert!(heard.feed(Part::Text(piece), &mut || 0).is_none(), "a message that has not ended");
        }
        match heard.feed(Part::End, &mut || 0) {
            Some(Told::Ended(observed) | Told::Transcribed(observed)) => charged.push(charge(&observed)),
            Some(Told::Failed(failed)) => charged.extend(heard.fail(&failed).map(|observed| charge(&observed))),
            None => {}
        }
    }
    assert!(heard.finish().is_none(), "nothing is under way");
    charged
}

#[test]
fn a_realtime_session_costs_what_its_provider_bills() {
    // The speech of the app, by the model that transcribes: text, sound, output.
    let transcript = sum(&[(2, 1_250), (20, 3_000), (9, 5_000)]);
    // A function call: text, sound, output.
    let call = sum(&[(480, 4_000), (20, 32_000), (48, 16_000)]);
    // Text 119 of which 64 are cached, sound 613 of which 200, pictures 400 of which 200; output as text and as sound.
    let answer = sum(&[(55, 4_000), (64, 400), (413, 32_000), (200, 400), (200, 5_000), (200, 500), (30, 16_000), (91, 64_000)]);
    // The last response has failed before it did anything.
    for size in [1, 97, usize::MAX] {
        assert_eq!(session(golden!("realtime.jsonl"), size), [transcript, call, answer, 0], "pieces of {size}");
    }
}

#[test]
fn responses_over_a_websocket_cost_what_their_provider_bills() {
    // A function call: 1,024 cached at 1/20, 1,536 written for 30 minutes at 1.25, 512 for 12 hours at 2.5.
    let call = sum(&[(1_024, 2_000), (1_024, 100), (1_536, 2_500), (512, 5_000), (48, 10_000)]);
    // The answer came by priority, which costs twice.
    let answer = 2 * sum(&[(104, 2_000), (4_096, 100), (3, 10_000)]);
    // The last response ends in an error.
    for size in [1, 97, usize::MAX] {
        assert_eq!(session(golden!("responses_ws.jsonl"), size), [call, answer, 0], "pieces of {size}");
    }
}

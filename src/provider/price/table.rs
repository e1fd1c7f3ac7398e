//! The built-in prices: list prices in US dollars, each row with the page it stands on and the month in which it was read.
//!
//! Rows are thousandths of a dollar for a million tokens. A dated name (`gpt-4o-2024-08-06`) costs the same as its family, unless it has
//! a row of its own. Not expressed: OpenAI's regional processing (the answer does not tell it), storage of caches and files, free
//! allowances.

use super::{
    Entry, Origin,
    rates::{Factor, Fees, Rates, Tiers},
};
use crate::config::Glob;

/// A page of prices, and the month in which it was read.
pub(super) type Source = (&'static str, &'static str);

const OPENAI: Source = ("https://developers.openai.com/api/docs/pricing", "2026-11");
const ANTHROPIC: Source = ("https://platform.claude.com/docs/en/about-claude/pricing", "2026-11");
const GEMINI: Source = ("https://ai.google.dev/gemini-api/docs/pricing", "2026-11");

/// A row: the names, then input, cached input, output, and the factor of the fast tier (0: it has none).
type Row = (&'static [&'static str], u64, u64, u64, Factor);

/// A row with sound or pictures: the names, then text, sound, pictures; each as input, cached input, output.
type MediaRow = (&'static [&'static str], [u64; 3], [u64; 3], [u64; 3]);

/// Gemini's row: the names, then input, cached input, output; the same of sound, and of pictures in the output; the same above 200,000
/// tokens of input, if it differs.
type GeminiRow = (&'static [&'static str], [u64; 3], [u64; 2], u64, Option<[u64; 3]>);

const NONE: Factor = Factor(0, 1);
const TWICE: Factor = Factor(2, 1);
const HALF: Factor = Factor(1, 2);
/// Nano-USD for a million tokens in a thousandth of a dollar.
const THOUSANDTH: u64 = 1_000_000;
/// Nano-USD in a dollar.
const USD: u64 = 1_000_000_000;

/// Dollars for a thousand: searches of the web 10, of files 2.50; a container 0.03 for each.
const OPENAI_FEES: Fees = [10 * USD, 5 * USD / 2, 30 * USD, 0, 0, 0];
/// Searches of the web 10. Code is billed by the hour of a container, which no answer tells.
const ANTHROPIC_FEES: Fees = [10 * USD, 0, 0, 0, 0, 0];
/// Gemini 3: 14 for a thousand queries.
const GEMINI_3_FEES: Fees = [0, 0, 0, 14 * USD, 0, 0];
/// Gemini 2: 35 for a thousand answers that stand on searches.
const GEMINI_2_FEES: Fees = [0, 0, 0, 0, 35 * USD, 0];
/// The fees of a model that is in no table.
pub(super) const OTHER_FEES: Fees = [10 * USD, 5 * USD / 2, 30 * USD, 14 * USD, 0, 0];

/// The tiers of a model that is in no table.
pub(super) const OTHER_TIERS: Tiers = Tiers { flex: Some(HALF), batch: Some(HALF), fast: Some(TWICE), ultrafast: Some(Factor(6, 1)) };

/// All rows.
pub(super) fn known() -> Vec<Entry> {
    let mut entries = Vec::new();
    openai(&mut entries);
    anthropic(&mut entries);
    gemini(&mut entries);
    entries
}

fn openai(entries: &mut Vec<Entry>) {
    // Ultrafast costs six times the standard rates, flex and batch half of them.
    let tiers =
        |fast: Factor| Tiers { flex: Some(HALF), batch: Some(HALF), fast: (fast != NONE).then_some(fast), ultrafast: Some(Factor(6, 1)) };
    let mut add = |names: &'static [&'static str], rates: Rates, long: bool, tiers: Tiers| {
        let long = long.then(|| (272_000, rates.times(TWICE, Factor(3, 2))));
        entries.extend(names.iter().map(|name| Entry {
            model: Glob::new(*name),
            tier: None,
            rates,
            long,
            tiers,
            regional: Factor::ONE,
            fees: OPENAI_FEES,
            origin: Origin::Table(OPENAI),
        }));
    };
    // Writes to the cache cost as much as input, from GPT-5.6 on 1.25 times that for 30 minutes and 2.5 times that for 12 hours.
    let text = |row: &Row, short: u64, long: u64| {
        let of = |thousandths: u64| thousandths * THOUSANDTH;
        Rates::text(of(row.1), of(row.2), of(row.1) * short / 100, of(row.1) * long / 100, of(row.3))
    };
    for row in OPENAI_ROWS {
        add(row.0, text(row, 100, 100), false, tiers(row.4));
    }
    for row in OPENAI_LONG {
        add(row.0, text(row, 100, 100), true, tiers(row.4));
    }
    for row in OPENAI_WRITES {
        add(row.0, text(row, 125, 250), true, tiers(row.4));
    }
    // Its ultrafast tier costs three times the standard rates until the end of February 2027.
    let sol: Row = (&["gpt-6.2-sol", "gpt-6.2-sol-20*"], 2_000, 100, 10_000, TWICE);
    add(sol.0, text(&sol, 125, 250), true, Tiers { ultrafast: Some(Factor(3, 1)), ..tiers(TWICE) });
    for (names, words, sound, pictures) in OPENAI_MEDIA {
        let [words, sound, pictures] = [words, sound, pictures].map(|rates| rates.map(|thousandths| thousandths * THOUSANDTH));
        let rates = Rates::text(words[0], words[1], words[0], words[0], words[2]).with_audio(sound[0], sound[1], sound[2]).with_images(
            pictures[0],
            pictures[1],
            pictures[2],
        );
        add(names, rates, false, tiers(NONE));
    }
    // 0.006 dollars a minute: 0.0001 a second.
    entries.push(Entry {
        model: Glob::new("whisper-1"),
        tier: None,
        rates: Rates([0; 11]),
        long: None,
        tiers: tiers(NONE),
        regional: Factor::ONE,
        fees: [0, 0, 0, 0, 0, USD / 10_000],
        origin: Origin::Table(OPENAI),
    });
}

fn anthropic(entries: &mut Vec<Entry>) {
    // Writes to the cache cost 1.25 times the input for five minutes, and twice the input for an hour.
    let text = |row: &Row| {
        let of = |thousandths: u64| thousandths * THOUSANDTH;
        Rates::text(of(row.1), of(row.2), of(row.1) * 5 / 4, of(row.1) * 2, of(row.3))
    };
    let mut add = |row: &Row, long: Option<(u64, Rates)>, regional: Factor| {
        let fast = (row.4 != NONE).then_some(row.4);
        entries.extend(row.0.iter().map(|name| Entry {
            model: Glob::new(*name),
            tier: None,
            rates: text(row),
            long,
            tiers: Tiers { flex: None, batch: Some(HALF), fast, ultrafast: None },
            regional,
            fees: ANTHROPIC_FEES,
            origin: Origin::Table(ANTHROPIC),
        }));
    };
    for row in ANTHROPIC_OLD {
        add(row, None, Factor::ONE);
    }
    for row in ANTHROPIC_LONG {
        add(row, Some((200_000, text(row).times(TWICE, Factor(3, 2)))), Factor::ONE);
    }
    for row in ANTHROPIC_REGIONAL {
        add(row, None, Factor(11, 10));
    }
    let haiku: Row = (&["claude-haiku-5-5*"], 100, 10, 500, NONE);
    add(&haiku, Some((100_000, text(&(haiku.0, 500, 50, 2_500, NONE)))), Factor(11, 10));
}

fn gemini(entries: &mut Vec<Entry>) {
    let of = |thousandths: u64| thousandths * THOUSANDTH;
    for (names, [input, cached, output], [sound, cached_sound], pictures, long) in GEMINI_ROWS {
        let rates = |input: u64, cached: u64, output: u64| Rates::text(of(input), of(cached), of(input), of(input), of(output));
        let all = rates(*input, *cached, *output).with_audio(of(*sound), of(*cached_sound), of(*output));
        let all = all.with_images(of(*input), of(*cached), of(if *pictures == 0 { *output } else { *pictures }));
        entries.extend(names.iter().map(|name| Entry {
            model: Glob::new(*name),
            tier: None,
            rates: all,
            long: long.map(|[input, cached, output]| (200_000, rates(input, cached, output))),
            tiers: Tiers { flex: Some(HALF), batch: Some(HALF), fast: Some(Factor(9, 5)), ultrafast: None },
            regional: Factor::ONE,
            fees: if name.starts_with("gemini-2") { GEMINI_2_FEES } else { GEMINI_3_FEES },
            origin: Origin::Table(GEMINI),
        }));
    }
}

const OPENAI_ROWS: &[Row] = &[
    (&["gpt-3.5-turbo", "gpt-3.5-turbo-0125"], 500, 500, 1_500, NONE),
    (&["gpt-3.5-turbo-instruct"], 1_500, 1_500, 2_000, NONE),
    (&["gpt-4", "gpt-4-0613"], 30_000, 30_000, 60_000, NONE),
    (&["gpt-4-turbo", "gpt-4-turbo-20*"], 10_000, 10_000, 30_000, NONE),
    (&["gpt-4o", "gpt-4o-20*"], 2_500, 1_250, 10_000, Factor(17, 10)),
    (&["gpt-4o-2024-05-13"], 5_000, 5_000, 15_000, Factor(7, 4)),
    (&["chatgpt-4o-latest"], 5_000, 5_000, 15_000, NONE),
    (&["gpt-4o-mini", "gpt-4o-mini-20*"], 150, 75, 600, Factor(5, 3)),
    (&["gpt-4.1", "gpt-4.1-20*"], 2_000, 500, 8_000, Factor(7, 4)),
    (&["gpt-4.1-mini", "gpt-4.1-mini-20*"], 400, 100, 1_600, Factor(7, 4)),
    (&["gpt-4.1-nano", "gpt-4.1-nano-20*"], 100, 25, 400, TWICE),
    (&["o1", "o1-20*"], 15_000, 7_500, 60_000, NONE),
    (&["o1-mini", "o1-mini-20*"], 1_100, 550, 4_400, NONE),
    (&["o1-pro", "o1-pro-20*"], 150_000, 150_000, 600_000, NONE),
    (&["o3", "o3-20*"], 2_000, 500, 8_000, Factor(7, 4)),
    (&["o3-mini", "o3-mini-20*"], 1_100, 550, 4_400, NONE),
    (&["o3-pro", "o3-pro-20*"], 20_000, 20_000, 80_000, NONE),
    (&["o4-mini", "o4-mini-20*"], 1_100, 275, 4_400, Factor(20, 11)),
    (&["o3-deep-research", "o3-deep-research-20*"], 10_000, 2_500, 40_000, NONE),
    (&["o4-mini-deep-research", "o4-mini-deep-research-20*"], 2_000, 500, 8_000, NONE),
    (&["gpt-5", "gpt-5-20*", "gpt-5-codex", "gpt-5-chat-latest"], 1_250, 125, 10_000, TWICE),
    (&["gpt-5-mini", "gpt-5-mini-20*"], 250, 25, 2_000, Factor(9, 5)),
    (&["gpt-5-nano", "gpt-5-nano-20*"], 50, 5, 400, NONE),
    (&["gpt-5-pro", "gpt-5-pro-20*"], 15_000, 15_000, 120_000, NONE),
    (&["gpt-5.1", "gpt-5.1-20*", "gpt-5.1-codex", "gpt-5.1-chat-latest"], 1_250, 125, 10_000, TWICE),
    (&["gpt-5.1-codex-mini"], 250, 25, 2_000, NONE),
    (&["gpt-5.2", "gpt-5.2-20*", "gpt-5.2-chat-latest"], 1_750, 175, 14_000, TWICE),
    (&["gpt-5.2-pro", "gpt-5.2-pro-20*"], 21_000, 21_000, 168_000, NONE),
    (&["gpt-5.4-mini", "gpt-5.4-mini-20*"], 750, 75, 4_500, TWICE),
    (&["gpt-5.4-nano", "gpt-5.4-nano-20*"], 200, 20, 1_250, NONE),
    (&["text-embedding-3-small"], 20, 20, 0, NONE),
    (&["text-embedding-3-large"], 130, 130, 0, NONE),
    (&["text-embedding-ada-002"], 100, 100, 0, NONE),
];

/// Rows with a higher rate above 272,000 tokens of input: input and cache twice, output one and a half times.
const OPENAI_LONG: &[Row] = &[
    (&["gpt-5.4", "gpt-5.4-20*"], 2_500, 250, 15_000, TWICE),
    (&["gpt-5.4-pro", "gpt-5.4-pro-20*"], 30_000, 30_000, 180_000, NONE),
    (&["gpt-5.5", "gpt-5.5-20*"], 5_000, 500, 30_000, Factor(5, 2)),
    (&["gpt-5.5-pro", "gpt-5.5-pro-20*"], 30_000, 30_000, 180_000, NONE),
];

/// Rows with that higher rate and with prices of their own for writes to the cache.
const OPENAI_WRITES: &[Row] = &[
    (&["gpt-5.6", "gpt-5.6-sol", "gpt-5.6-sol-20*"], 4_000, 400, 20_000, TWICE),
    (&["gpt-5.6-terra", "gpt-5.6-terra-20*"], 2_000, 200, 12_000, TWICE),
    (&["gpt-5.6-luna", "gpt-5.6-luna-20*"], 200, 20, 1_200, TWICE),
    (&["gpt-6-astra", "gpt-6-astra-20*"], 10_000, 1_000, 50_000, TWICE),
    (&["gpt-6-sol", "gpt-6-sol-20*"], 2_000, 200, 10_000, TWICE),
    (&["gpt-6-luna", "gpt-6-luna-20*"], 100, 10, 500, TWICE),
    (&["gpt-6.1-sol", "gpt-6.1-sol-20*"], 2_000, 100, 10_000, TWICE),
    (&["gpt-6.1-terra", "gpt-6.1-terra-20*"], 1_000, 50, 5_000, TWICE),
];

/// Rows with sound or pictures.
const OPENAI_MEDIA: &[MediaRow] = &[
    (&["gpt-realtime", "gpt-realtime-20*"], [4_000, 400, 16_000], [32_000, 400, 64_000], [5_000, 500, 16_000]),
    (&["gpt-realtime-mini", "gpt-realtime-mini-20*"], [600, 60, 2_400], [10_000, 300, 20_000], [800, 80, 2_400]),
    (&["gpt-audio", "gpt-audio-20*"], [2_500, 2_500, 10_000], [32_000, 32_000, 64_000], [2_500, 2_500, 10_000]),
    (&["gpt-audio-mini", "gpt-audio-mini-20*"], [600, 600, 2_400], [10_000, 10_000, 20_000], [600, 600, 2_400]),
    (&["gpt-4o-transcribe"], [2_500, 2_500, 10_000], [6_000, 6_000, 10_000], [2_500, 2_500, 10_000]),
    (&["gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-20*"], [1_250, 1_250, 5_000], [3_000, 3_000, 5_000], [1_250, 1_250, 5_000]),
    (&["gpt-4o-mini-tts", "gpt-4o-mini-tts-20*"], [600, 600, 12_000], [600, 600, 12_000], [600, 600, 12_000]),
    (&["gpt-image-1"], [5_000, 1_250, 40_000], [5_000, 1_250, 40_000], [10_000, 2_500, 40_000]),
    (&["gpt-image-1-mini"], [2_000, 200, 8_000], [2_000, 200, 8_000], [2_500, 250, 8_000]),
    (&["gpt-image-1.5"], [5_000, 1_250, 10_000], [5_000, 1_250, 10_000], [8_000, 2_000, 32_000]),
];

/// Rows from before the models that may be bound to a region.
const ANTHROPIC_OLD: &[Row] = &[
    (&["claude-3-haiku*"], 250, 30, 1_250, NONE),
    (&["claude-3-opus*", "claude-opus-4-0", "claude-opus-4-20*", "claude-opus-4@*", "claude-opus-4-1*"], 15_000, 1_500, 75_000, NONE),
    (&["claude-3-5-haiku*"], 800, 80, 4_000, NONE),
    (&["claude-3-sonnet*", "claude-3-5-sonnet*", "claude-3-7-sonnet*"], 3_000, 300, 15_000, NONE),
    (&["claude-haiku-4-5*"], 1_000, 100, 5_000, NONE),
    (&["claude-opus-4-5*"], 5_000, 500, 25_000, NONE),
];

/// Rows of models that may be bound to the United States, for a tenth more.
const ANTHROPIC_REGIONAL: &[Row] = &[
    (&["claude-sonnet-4-6*"], 3_000, 300, 15_000, NONE),
    (&["claude-opus-4-6*", "claude-opus-4-7*"], 5_000, 500, 25_000, Factor(6, 1)),
    (&["claude-opus-4-8*"], 5_000, 500, 25_000, TWICE),
    (&["claude-opus-5", "claude-opus-5-20*", "claude-opus-5@*"], 5_000, 500, 25_000, TWICE),
    (&["claude-opus-5-5*"], 4_000, 200, 20_000, TWICE),
    (&["claude-sonnet-5", "claude-sonnet-5-20*", "claude-sonnet-5@*"], 2_000, 200, 10_000, NONE),
    (&["claude-sonnet-5-5*"], 2_000, 100, 10_000, NONE),
    (&["claude-fable-5", "claude-fable-5-20*", "claude-mythos-5", "claude-mythos-5-20*"], 10_000, 1_000, 50_000, NONE),
    (&["claude-fable-5-1*", "claude-mythos-5-1*"], 10_000, 250, 50_000, NONE),
];

/// Rows with a higher rate above 200,000 tokens of input: input and cache twice, output one and a half times.
const ANTHROPIC_LONG: &[Row] =
    &[(&["claude-sonnet-4-0", "claude-sonnet-4-20*", "claude-sonnet-4@*", "claude-sonnet-4-5*"], 3_000, 300, 15_000, NONE)];

const GEMINI_ROWS: &[GeminiRow] = &[
    (&["gemini-2.0-flash", "gemini-2.0-flash-001"], [100, 25, 400], [700, 175], 0, None),
    (&["gemini-2.0-flash-lite", "gemini-2.0-flash-lite-001"], [75, 75, 300], [75, 75], 0, None),
    (&["gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"], [300, 30, 2_500], [1_000, 100], 0, None),
    (&["gemini-2.5-flash-image"], [300, 300, 2_500], [300, 300], 30_000, None),
    (&["gemini-2.5-flash-lite"], [100, 10, 400], [300, 30], 0, None),
    (&["gemini-2.5-pro"], [1_250, 125, 10_000], [1_250, 125], 0, Some([2_500, 250, 15_000])),
    (&["gemini-3-flash-preview"], [500, 50, 3_000], [1_000, 100], 0, None),
    (&["gemini-3-pro-preview", "gemini-3.1-pro-preview"], [2_000, 200, 12_000], [2_000, 200], 0, Some([4_000, 400, 18_000])),
    (&["gemini-3-pro-image-preview"], [2_000, 2_000, 12_000], [2_000, 2_000], 120_000, None),
    (&["gemini-3.1-flash-lite-preview"], [250, 25, 1_500], [500, 50], 0, None),
    (&["gemini-3.5-flash"], [1_500, 150, 9_000], [1_500, 150], 0, None),
    (&["gemini-3.5-flash-lite"], [300, 30, 2_500], [300, 30], 0, None),
    (&["gemini-3.6-flash"], [1_500, 150, 7_500], [1_500, 150], 0, None),
    (&["gemini-embedding-001"], [150, 150, 0], [150, 150], 0, None),
];

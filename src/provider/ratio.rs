//! How a model's tokens compare with the proxy's own count, learned from complete calls.
//!
//! The count of [`text`](super::text) fits one tokenizer. Another tokenizer differs by a factor that is about the same for all of a
//! model's texts. The factor is learned for the prompt and for the answer of each model, from calls whose figures the provider has
//! stated, and it corrects estimates: reservations, and what a cut stream has cost. Pictures, sound, hidden reasoning and hosted tools
//! teach nothing: their tokens are in no text.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use parking_lot::RwLock;

use super::Observed;
use crate::usage::{Units, Usage, UsageSource};

/// A ratio of 1, in thousandths.
const ONE: u32 = 1_000;
/// Bounds of a ratio. A call beyond the bounds teaches nothing: it had tokens that are in no text, or texts that are no tokens.
const LEAST: u32 = 500;
const MOST: u32 = 2_000;
/// Tokens of the smallest text that teaches: smaller ones are rounded too much.
const TEACHES: u64 = 64;
/// The weight of one call is one part in this many.
const WEIGHT: u32 = 8;
/// Most models with learned ratios. Further models keep their seed.
const MODELS: usize = 1_000;

/// Learned ratios by model.
#[derive(Debug, Default)]
pub struct Ratios(RwLock<HashMap<Box<str>, [AtomicU32; 2]>>);

/// The ratios of one model, in thousandths: reported tokens for a thousand counted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Of prompts.
    pub input: u32,
    /// Of answers.
    pub output: u32,
}

impl Ratios {
    /// The ratios of a model; its seed, before a call has taught any.
    pub fn of(&self, model: Option<&str>) -> Ratio {
        let Some(model) = model else { return Ratio::seed("") };
        match self.0.read().get(model) {
            Some([input, output]) => Ratio { input: input.load(Relaxed), output: output.load(Relaxed) },
            None => Ratio::seed(model),
        }
    }

    /// Learns from a complete call to `model` whose prompt was counted as `input` tokens.
    pub fn learn(&self, model: Option<&str>, input: u64, observed: &Observed) {
        let Observed { usage, source, units, parts, terminal, .. } = observed;
        let Some(model) = model else { return };
        let beside = Usage { input: 0, cache_read: 0, cache_write: 0, cache_write_1h: 0, output: 0, reasoning: 0, ..*usage };
        if *source != UsageSource::Provider || !*terminal || !parts.is_empty() || *units != Units::default() || beside.total() > 0 {
            return;
        }
        let spoken = if usage.reasoning == 0 { usage.output } else { 0 };
        let samples = [sample(input, usage.total_input()), sample(observed.estimated_output, spoken)];
        if samples == [None, None] {
            return;
        }
        let teach = |ratios: &[AtomicU32; 2]| {
            for (ratio, sample) in ratios.iter().zip(samples).filter_map(|(ratio, sample)| Some((ratio, sample?))) {
                let old = ratio.load(Relaxed);
                ratio.store((old * (WEIGHT - 1) + sample) / WEIGHT, Relaxed);
            }
        };
        if let Some(ratios) = self.0.read().get(model) {
            return teach(ratios);
        }
        let mut models = self.0.write();
        if models.len() < MODELS || models.contains_key(model) {
            let Ratio { input, output } = Ratio::seed(model);
            teach(models.entry(model.into()).or_insert_with(|| [AtomicU32::new(input), AtomicU32::new(output)]));
        }
    }
}

/// The ratio of one text; `None`: it teaches nothing.
fn sample(counted: u64, reported: u64) -> Option<u32> {
    let thousandths = reported.checked_mul(u64::from(ONE))?.checked_div(counted)?;
    u32::try_from(thousandths).ok().filter(|ratio| counted >= TEACHES && (LEAST..=MOST).contains(ratio))
}

impl Ratio {
    /// The ratio of a model that has taught nothing: Anthropic's tokenizer makes more tokens of a text than OpenAI's, from 1.0 to 1.35
    /// times as many (platform.claude.com, migration guide).
    fn seed(model: &str) -> Self {
        let ratio = if model.contains("claude") { 1_150 } else { ONE };
        Self { input: ratio, output: ratio }
    }

    /// The tokens of a prompt that was counted as this many.
    pub fn prompt(self, counted: u64) -> u64 {
        scaled(counted, self.input)
    }

    /// The tokens of an answer that was counted as this many.
    pub fn answer(self, counted: u64) -> u64 {
        scaled(counted, self.output)
    }
}

fn scaled(counted: u64, ratio: u32) -> u64 {
    let scaled = (u128::from(counted) * u128::from(ratio)).div_ceil(u128::from(ONE));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: u64, output: u64, counted: u64) -> Observed {
        let usage = Usage { input, output, ..Usage::default() };
        Observed { usage, source: UsageSource::Provider, terminal: true, estimated_output: counted, ..Observed::default() }
    }

    #[test]
    fn a_ratio_is_learned_for_each_model_and_side() {
        let ratios = Ratios::default();
        for _ in 0..40 {
            ratios.learn(Some("m"), 100, &call(130, 700, 1_000));
        }
        let Ratio { input, output } = ratios.of(Some("m"));
        assert!((1_290..=1_300).contains(&input) && (700..=710).contains(&output), "{input} {output}");
        assert!((129..=130).contains(&ratios.of(Some("m")).prompt(100)));
        assert_eq!(ratios.of(Some("other")), Ratio { input: 1_000, output: 1_000 });
        assert_eq!(ratios.of(Some("eu.anthropic.claude-x")).answer(100), 115, "the seed of its maker");
        assert_eq!(ratios.of(None).answer(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_is_in_no_text_teaches_nothing() {
        let ratios = Ratios::default();
        let good = || call(1_000, 1_000, 500);
        for (what, input, observed) in [
            ("estimated", 500, Observed { source: UsageSource::Estimated, ..good() }),
            ("cut", 500, Observed { terminal: false, ..good() }),
            ("parts", 500, Observed { parts: vec![crate::usage::Part::default()], ..good() }),
            ("searches", 500, Observed { units: Units { web_searches: 1, ..Units::default() }, ..good() }),
            ("sound", 500, Observed { usage: Usage { audio_input: 1, ..good().usage }, ..good() }),
            ("too small", 63, call(100, 63, 63)),
            ("too far off", 100, call(201, 49, 100)),
        ] {
            ratios.learn(Some("m"), input, &observed);
            assert_eq!(ratios.of(Some("m")), Ratio { input: 1_000, output: 1_000 }, "{what}");
        }
        ratios.learn(Some("m"), 500, &Observed { usage: Usage { reasoning: 10, ..good().usage }, ..good() });
        assert_eq!(ratios.of(Some("m")), Ratio { input: 1_125, output: 1_000 }, "hidden reasoning, but a prompt");
        ratios.learn(None, 500, &good());
    }

    #[test]
    fn models_are_bounded() {
        let ratios = Ratios::default();
        for n in 0..=MODELS {
            ratios.learn(Some(&format!("m{n}")), 100, &call(200, 0, 0));
        }
        assert_eq!(ratios.of(Some(&format!("m{MODELS}"))).input, 1_000);
        ratios.learn(Some("m0"), 100, &call(200, 0, 0));
        assert_eq!(ratios.of(Some("m0")).input, 1_234);
    }
}

//! The terms of a call's price, in the providers' words: a request's terms are asked for, an answer's terms were given.
//!
//! Sources: OpenAI API reference (`service_tier` of chat and responses), Anthropic Messages reference (`usage.service_tier`,
//! `usage.speed`, `usage.inference_geo`), Gemini `TrafficType` and `ServiceTier`, Bedrock `ServiceTier`.

use crate::{
    config::Api,
    usage::{Terms, Tier},
};

/// The tier of a provider's word. Capacity that was bought ahead (Anthropic's `priority`, OpenAI's `scale`, Google's provisioned
/// throughput) counts at the standard price: the proxy does not see what it was bought for.
pub(super) fn tier(api: Api, word: &str) -> Tier {
    match word {
        // `auto` and `standard_only` leave the choice to the provider.
        "" | "auto" | "standard_only" | "unspecified" | "TRAFFIC_TYPE_UNSPECIFIED" => Tier::Unsaid,
        "default" | "standard" | "on_demand" | "scale" | "reserved" => Tier::Standard,
        "ON_DEMAND" | "ON_DEMAND_OFFPEAK" | "PROVISIONED_THROUGHPUT" => Tier::Standard,
        "priority" if api == Api::Anthropic => Tier::Standard,
        "priority" | "fast" | "ON_DEMAND_PRIORITY" | "PRIORITY" => Tier::Fast,
        "flex" | "ON_DEMAND_FLEX" | "FLEX" => Tier::Flex,
        "batch" => Tier::Batch,
        "ultrafast" => Tier::Ultrafast,
        _ => Tier::Other,
    }
}

/// The terms of these words; an empty word says nothing. `speed` and `geo` are Anthropic's.
pub(super) fn terms(api: Api, tier_word: &str, speed: &str, geo: &str) -> Terms {
    let tier = match (tier(api, tier_word), speed) {
        // A batch is never fast.
        (Tier::Batch, _) => Tier::Batch,
        (_, "fast") => Tier::Fast,
        (tier, _) => tier,
    };
    Terms { tier, regional: !matches!(geo, "" | "global" | "not_available"), ..Terms::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_providers() {
        for (api, words, tier, regional) in [
            (Api::OpenAi, ["auto", "", ""], Tier::Unsaid, false),
            (Api::OpenAi, ["default", "", ""], Tier::Standard, false),
            (Api::OpenAi, ["priority", "", ""], Tier::Fast, false),
            (Api::OpenAi, ["fast", "", ""], Tier::Fast, false),
            (Api::OpenAi, ["flex", "", ""], Tier::Flex, false),
            (Api::OpenAi, ["ultrafast", "", ""], Tier::Ultrafast, false),
            (Api::OpenAi, ["warp", "", ""], Tier::Other, false),
            (Api::Anthropic, ["standard", "standard", "not_available"], Tier::Standard, false),
            (Api::Anthropic, ["priority", "", "global"], Tier::Standard, false),
            (Api::Anthropic, ["standard", "fast", "us"], Tier::Fast, true),
            (Api::Anthropic, ["batch", "fast", "us"], Tier::Batch, true),
            (Api::Gemini, ["ON_DEMAND_PRIORITY", "", ""], Tier::Fast, false),
            (Api::Gemini, ["ON_DEMAND", "", ""], Tier::Standard, false),
            (Api::Bedrock, ["reserved", "", ""], Tier::Standard, false),
        ] {
            assert_eq!(terms(api, words[0], words[1], words[2]), Terms { tier, regional, ..Terms::default() }, "{api} {words:?}");
        }
    }
}

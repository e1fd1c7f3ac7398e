//! Whether Redis may evict: a policy that drops keys before their end makes limits admit too much, and nobody would know.
//!
//! Source: Redis' documentation of key eviction: without a bound on its memory Redis evicts nothing, whatever the policy says.

use std::{collections::HashMap, sync::Arc};

use fred::{
    clients::{Client, WithOptions},
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand},
};
use tokio::time::timeout;

use super::Redis;

impl Redis {
    /// The `maxmemory-policy` by which Redis may evict keys, as it said when it was last joined; `None`: it evicts nothing, or it does not
    /// say. Of a Cluster one node was asked.
    pub fn evicts(&self) -> Option<Arc<String>> {
        self.evicts.load_full()
    }

    /// Asks Redis for its policy. A server that refuses to say, as managed ones do, or does not say in time, is as good as one that keeps
    /// everything: the answer is for people alone.
    pub(super) async fn learn_eviction(&self, client: &WithOptions<Client>) {
        let command = CustomCommand::new_static("CONFIG", ClusterHash::Random, false);
        // Boxed: a command of the library is 20 KB.
        let asked = Box::pin(client.custom::<HashMap<String, String>, _>(command, vec!["GET", "maxmemory*"]));
        let said = timeout(self.timeout, asked).await;
        self.evicts.store(said.ok().and_then(Result::ok).as_ref().and_then(policy).map(Arc::new));
    }
}

/// The policy by which a server with these settings evicts.
fn policy(settings: &HashMap<String, String>) -> Option<String> {
    let is_bounded = settings.get("maxmemory").is_none_or(|bytes| bytes != "0");
    settings.get("maxmemory-policy").filter(|policy| is_bounded && *policy != "noeviction").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bound_and_a_policy_together_evict() {
        let of = |bytes: Option<&str>, word: &str| {
            let bytes = bytes.map(|bytes| ("maxmemory".to_owned(), bytes.to_owned()));
            policy(&bytes.into_iter().chain([("maxmemory-policy".to_owned(), word.to_owned())]).collect())
        };
        assert_eq!(of(Some("1048576"), "volatile-lru").as_deref(), Some("volatile-lru"));
        assert_eq!(of(None, "allkeys-lfu").as_deref(), Some("allkeys-lfu"));
        assert_eq!((of(Some("0"), "allkeys-lru"), of(Some("1048576"), "noeviction")), (None, None));
        assert_eq!(policy(&HashMap::new()), None);
    }
}

//! The whole proxy, tested from outside: one binary, one module a concern.
//!
//! Each test builds a [`world::World`] from a proxy.yaml and asks what a client, the app or a provider would see. The
//! clock is paused and everything is in memory, so nothing here sleeps and nothing has a port.

/// The app, the providers, the proxy and the clients that every test is made of.
mod world;

/// Nothing named: what passes through is what a direct connection would have carried.
mod transparent;

/// Connections and framing: keep-alive, HEAD, 204, trailers, chunks, back-pressure, cancellation, ceilings and idle bounds.
mod listening;

/// Which route answers: precedence at both doors, unknown providers, paths that could be read in two ways.
mod routing;

/// Several apps behind one door.
mod apps;

/// Calls whose path names no provider: the model's name says where they go.
mod by_model;

/// Header fields that change on the way, and those that never leave.
mod headers;

/// Pages of other origins: who may read, and what may not be sent.
mod gate;

/// Who may come in by what they can prove, and what becomes of a credential.
mod auth;

/// What would have been refused.
mod observed;

/// Who is refused too often.
mod bans;

/// Personal data in model calls: what leaves, and what comes back.
mod privacy;

/// Tokens of an issuer: which count, and what happens while the issuer changes its keys or is away.
mod tokens;

/// Requests per window: never more than the limit in any window, never refused below it, and a `Retry-After` that is true.
mod by_hand;
mod limits;

/// Requests in flight, and requests that wait in line for a limit.
mod queues;

/// What a spent limit does instead of refusing.
mod acts;

/// Tokens and dollars: reserved, settled, and charged to the user whose request caused the call.
mod sound;
mod spend;

/// Who pays for a try.
mod bills;

/// What an answer says beside its tokens.
mod charges;

/// The sums of all books over a random run of every kind of call.
mod books;

/// Which of a provider's keys is used.
mod keys;

/// Who waits for whom, and for how long.
mod seams;

/// Which request caused a call, under load and whatever is forged; ids that do not leave.
mod causes;

/// Trying again: when, how long after, how often, and when not.
mod repeated;
mod report;
mod retry;

/// What an operator expects of calls that do not fail, case by case.
mod promises;

/// Every time bound, from when it counts, and what it does not touch.
mod tiers;
mod timeouts;

/// A target that fails is left alone, and asked again by a probe.
mod breaker;

/// Other targets and static answers, before the first byte; the protocol's own error after it.
mod fallback;

/// What calls used and cost, however they were answered.
mod usage;

/// Work that goes on behind its answer, and what no answer says the cost of.
mod background;

/// Work that an earlier process has begun.
mod handed_on;

/// Work whose cost no answer says.
mod unattributed;
mod unmetered;

/// Batches: reserved at creation, charged by their results.
mod batches;

/// WebSockets to a model: charged response by response, ended when a limit is spent.
mod sessions;

/// A 200 that is no answer: tried again, passed over, never stored.
mod drain;
mod empty;

/// Request bodies in a content coding: read on the side, or refused where a policy must read them.
mod coded;
mod compressed;

/// How many connections a target may have, and who waits for one.
mod connections;

/// Streams and tunnels: as they come, both ways.
mod streaming;

/// Requests of our own that fill the cache.
mod warming;

/// A new file while requests are under way.
mod reload;

/// Memory presses, and no longer.
mod members;
mod memory;

/// Policies that only look.
mod observe;

/// Who may come in: files, countries, programs.
mod access;

/// Requests that are not as their route says.
mod json_schema;
mod validate;

/// Which exchanges have a line in the access log.
mod log;

/// Metrics, the access log, traces.
mod telemetry;

/// The last failures, each with its story.
mod failures;

/// `outrigger explain` beside the running proxy.
mod explain;

/// The same questions to `outrigger explain` and to the running proxy.
mod agree;

/// Model calls from the cache: what is kept, how it is given again, and how the app steers it.
mod model_cache;

/// POST that only reads, answered from the cache: declared fields, GraphQL.
mod places;
mod post_cache;

/// What metric, log line and `Cache-Status` say of the cache: the same word, door by door.
mod cache_words;

/// What went wrong once.
mod regression;

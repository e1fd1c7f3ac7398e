// The provider's own prices and arithmetic. Written from the providers' pages, in their form, and not from the proxy's table.
//
// Sources (read in 2026-11): developers.openai.com/api/docs/pricing, platform.claude.com/docs/en/about-claude/pricing,
// ai.google.dev/gemini-api/docs/pricing. A call's sum is exact, and is rounded up once, to a whole nano-dollar.

// Dollars for a million tokens: `text` is [input, cached input, output]; `writes` is [short, long] lifetimes of the cache; `audio` and
// `image` are like `text`; `above` is [tokens of input, factor of input, factor of output], or rates of its own; `fast` and `ultra` are
// factors of those tiers; `geo` of work that is bound to a region. Dollars for a thousand: `search`, `file`, `container`, `query`,
// `grounded`; for a second of sound: `second`.
const OPENAI = { flex: [1, 2], batch: [1, 2], ultra: [6, 1], search: 10, file: 2.5, container: 30 }
const CLAUDE = { batch: [1, 2], search: 10 }
const GEMINI = { flex: [1, 2], batch: [1, 2], fast: [9, 5] }
const claude = (input, cached, output, more) => ({ ...CLAUDE, text: [input, cached, output], writes: [input * 1.25, input * 2], ...more })
const ROWS = {
  'gpt-4o': { ...OPENAI, text: [2.5, 1.25, 10], fast: [17, 10] },
  'gpt-4o-mini': { ...OPENAI, text: [0.15, 0.075, 0.6], fast: [5, 3] },
  'gpt-4.1': { ...OPENAI, text: [2, 0.5, 8], fast: [7, 4] },
  'gpt-4.1-mini': { ...OPENAI, text: [0.4, 0.1, 1.6], fast: [7, 4] },
  'gpt-4.1-nano': { ...OPENAI, text: [0.1, 0.025, 0.4], fast: [2, 1] },
  'gpt-5-mini': { ...OPENAI, text: [0.25, 0.025, 2], fast: [9, 5] },
  'o4-mini': { ...OPENAI, text: [1.1, 0.275, 4.4], fast: [20, 11] },
  'gpt-6.2-sol': { ...OPENAI, text: [2, 0.1, 10], writes: [2.5, 5], above: [272_000, 2, 1.5], fast: [2, 1], ultra: [3, 1] },
  'gpt-audio': { ...OPENAI, text: [2.5, 2.5, 10], audio: [32, 32, 64] },
  'gpt-realtime': { ...OPENAI, text: [4, 0.4, 16], audio: [32, 0.4, 64], image: [5, 0.5, 16] },
  'gpt-image-1': { ...OPENAI, text: [5, 1.25, 40], image: [10, 2.5, 40] },
  'gpt-4o-transcribe': { ...OPENAI, text: [2.5, 2.5, 10], audio: [6, 6, 10] },
  'whisper-1': { ...OPENAI, text: [0, 0, 0], second: 0.0001 },
  'text-embedding-3-small': { ...OPENAI, text: [0.02, 0.02, 0] },
  'text-embedding-3-large': { ...OPENAI, text: [0.13, 0.13, 0] },
  'claude-opus-5': claude(5, 0.5, 25, { fast: [2, 1], geo: [11, 10] }),
  'claude-sonnet-5': claude(2, 0.2, 10, { geo: [11, 10] }),
  'claude-sonnet-4-5': claude(3, 0.3, 15, { above: [200_000, 2, 1.5] }),
  'claude-haiku-4-5': claude(1, 0.1, 5),
  'gemini-2.5-flash': { ...GEMINI, text: [0.3, 0.03, 2.5], audio: [1, 0.1, 2.5], grounded: 35 },
  'gemini-2.5-pro': { ...GEMINI, text: [1.25, 0.125, 10], above: [200_000, [2.5, 0.25, 15]], grounded: 35 },
  'gemini-3-flash-preview': { ...GEMINI, text: [0.5, 0.05, 3], audio: [1, 0.1, 3], query: 14 },
  'gemini-embedding-001': { ...GEMINI, text: [0.15, 0.15, 0] },
  // A price of the operator's own: the configuration has the same.
  'house-large': { ...OPENAI, text: [0.7, 0.35, 2.1], fast: [2, 1] },
}

/// The row of a model under any of its names: dated, with a vendor before it, at Bedrock.
function row(model) {
  const plain = model.split('/').at(-1).replace(/^.*anthropic\./, '').replace(/-v\d+:\d+$/, '').replace(/-\d{4}-?\d{2}-?\d{2}$/, '')
  if (!ROWS[plain]) throw new Error(`${model} has no price here`)
  return ROWS[plain]
}

// A ten-thousandth of a nano-dollar for a token: every rate is a whole number of it.
const rate = (dollars) => BigInt(Math.round(dollars * 1e7))
const ROUNDED = 10_000n

/// Nano-dollars of one pass of a model as a fraction [numerator, denominator] of `ROUNDED`ths.
function pass(model, used, tier, regional) {
  const price = row(model)
  const of = (name) => BigInt(used[name] ?? 0)
  const names = ['input', 'read', 'write', 'long', 'audioIn', 'audioRead', 'imageIn', 'imageRead']
  const all = names.reduce((sum, name) => sum + of(name), 0n)
  let [input, cached, output] = price.text
  let [write, long] = price.writes ?? [input, input]
  let [sound, cachedSound, saidSound] = price.audio ?? price.text
  let [picture, cachedPicture, madePicture] = price.image ?? price.text
  if (price.above && all > BigInt(price.above[0])) {
    if (Array.isArray(price.above[1])) {
      ;[input, cached, output] = price.above[1]
      ;[write, long, sound, cachedSound, saidSound] = [input, input, input, cached, output]
    } else {
      const [, more, most] = price.above
      ;[input, cached, write, long, sound, cachedSound] = [input, cached, write, long, sound, cachedSound].map((each) => each * more)
      ;[output, saidSound] = [output * most, saidSound * most]
    }
  }
  const sum =
    of('input') * rate(input) + of('read') * rate(cached) + of('write') * rate(write) + of('long') * rate(long) + of('output') * rate(output) +
    of('audioIn') * rate(sound) + of('audioRead') * rate(cachedSound) + of('audioOut') * rate(saidSound) +
    of('imageIn') * rate(picture) + of('imageRead') * rate(cachedPicture) + of('imageOut') * rate(madePicture)
  const factor = { flex: price.flex, batch: price.batch, fast: price.fast, ultra: price.ultra }[tier] ?? [1, 1]
  const bound = regional && price.geo ? price.geo : [1, 1]
  return [sum * BigInt(factor[0] * bound[0]), BigInt(factor[1] * bound[1])]
}

/// Nano-dollars of a call. `call.parts` are passes of other models; `call.used` is the answering model's own.
export function charge({ model, used, parts = [], tier = 'standard', regional = false, units = {} }) {
  const price = row(model)
  const passes = [pass(model, used, tier, regional), ...parts.map((part) => pass(part.model ?? model, part.used, tier, regional))]
  const thousandth = (count, dollars) => BigInt(count ?? 0) * BigInt(Math.round((dollars ?? 0) * 1e6)) * ROUNDED
  let whole =
    thousandth(units.search, price.search) + thousandth(units.file, price.file) + thousandth(units.container, price.container) +
    thousandth(units.query, price.query) + thousandth(units.grounded, price.grounded) + thousandth(units.seconds, (price.second ?? 0) * 1000)
  let [over, under] = [0n, 1n]
  for (const [numerator, denominator] of passes) [over, under] = [over * denominator + numerator * under, under * denominator]
  over += whole * under
  return (over + under * ROUNDED - 1n) / (under * ROUNDED)
}

// What the provider does for a call: the words it answers, the tokens it uses, the terms it works under, and its bill.

import { Chance } from './chance.mjs'
import { charge } from './prices.mjs'
import { pieces, pool, tokens } from './texts.mjs'

// Tokens of other makers' tokenizers, for a thousand of OpenAI's.
const MAKERS = [[/claude/, 1200], [/gemini/, 1080], [/^/, 1000]]

/// The provider's desk. `seed` decides everything that a request does not.
export class Desk {
  constructor(root, seed) {
    this.seed = seed
    this.texts = pool(root, seed)
    this.known = new Map()
    this.records = []
    this.attempts = new Map()
  }

  /// Tokens of a text for a model.
  tokens(model, text) {
    let count = this.known.get(text)
    if (count === undefined) {
      count = tokens(text)
      if (this.known.size < 20_000) this.known.set(text, count)
    }
    return this.scaled(model, count)
  }

  scaled(model, count) {
    const [, thousandths] = MAKERS.find(([pattern]) => pattern.test(model))
    return Math.ceil((count * thousandths) / 1000)
  }

  /// Tokens of a conversation, by the rule that OpenAI publishes: three for each message, one for its role, three before the answer.
  prompt(model, messages) {
    const own = messages.reduce((sum, text) => sum + 4 + this.tokens('', text), 3)
    return this.scaled(model, own)
  }

  /// How often this call has come, this time included.
  attempt(id) {
    const count = (this.attempts.get(id) ?? 0) + 1
    this.attempts.set(id, count)
    return count
  }

  /// Writes a bill. `how`: `reported`; or `cut` and `untold`, whose answer did not say it.
  bill(book, provider, asked, how, call) {
    const used = Object.fromEntries(Object.entries(call.used).filter(([, count]) => count))
    this.records.push({ book, provider, model: asked, how, nano: charge(call).toString(), used, at: Date.now() })
  }

  /// An answer of `model` to a prompt of `input` tokens. With `act.wild` it has everything that changes a price.
  answer(wire, model, input, book, act, most) {
    const chance = new Chance(this.seed, `answer ${book} ${act.line ?? ''}`)
    let text = chance.of(this.texts).text
    if (most) while (tokens(text) > most) text = text.slice(0, Math.floor(text.length / 2))
    const cut = pieces(text, chance)
    const output = this.scaled(model, cut.reduce((sum, piece) => sum + piece.tokens, 0))
    const answer = { id: `${wire}-${book}-${act.line ?? 0}`, model, text, pieces: cut, used: { input, output }, said: {}, units: {}, parts: [], tier: 'standard', regional: false }
    if (act.wild) wild(wire, answer, chance)
    return answer
  }

  /// The call of an answer, as it is charged.
  call(answer) {
    const { model, used, parts, tier, regional, units } = answer
    return { model, used, parts, tier, regional, units }
  }
}

// Figures far from the words: nobody can learn a ratio from them.
const large = (chance) => chance.whole(30, 400) * 256

function wild(wire, answer, chance) {
  const { used } = answer
  const tiers = (words, likelihood, say) => {
    if (!chance.happens(likelihood)) return
    const [tier, word] = chance.of(words)
    answer.tier = tier
    say(word)
  }
  if (wire === 'chat' || wire === 'responses') {
    if (chance.happens(0.6)) [used.input, used.read] = [used.input + large(chance), large(chance)]
    if (answer.model.includes('gpt-6') && chance.happens(0.5)) [used.write, used.long] = [large(chance), chance.happens(0.5) ? large(chance) : 0]
    if (answer.model.includes('gpt-6') && chance.happens(0.1)) used.input += 300_000
    if (chance.happens(0.4)) [used.reasoning, used.output] = [4096, used.output + 4096]
    // No other tier of models of sound is sold.
    const sold = answer.model === 'gpt-audio' ? [['standard', 'default']] : [['flex', 'flex'], ['fast', 'priority'], ['standard', 'default']]
    tiers(sold, 0.6, (word) => (answer.said.service_tier = word))
    if (answer.model === 'gpt-audio') [used.audioIn, used.audioOut] = [large(chance), large(chance)]
  }
  if (wire === 'responses' && chance.happens(0.4)) {
    answer.units = { search: chance.whole(0, 3), file: chance.whole(0, 2), container: chance.whole(0, 1) }
  }
  if (wire === 'messages') {
    if (chance.happens(0.7)) [used.read, used.write, used.long] = [large(chance), large(chance), chance.happens(0.5) ? large(chance) : 0]
    if (chance.happens(0.3)) answer.units = { search: chance.whole(1, 5) }
    answer.said.service_tier = 'standard'
    if (answer.model.includes('opus')) tiers([['fast', 'fast']], 0.3, (word) => (answer.said.speed = word))
    if (/claude-(opus|sonnet)-5/.test(answer.model) && chance.happens(0.3)) [answer.regional, answer.said.inference_geo] = [true, 'us']
    if (chance.happens(0.3)) {
      const kinds = { compaction: undefined, advisor_message: 'claude-opus-5', fallback_message: 'claude-haiku-4-5' }
      const type = chance.of(Object.keys(kinds))
      answer.parts = [{ type, model: kinds[type], used: { input: large(chance), output: 900, read: chance.happens(0.5) ? large(chance) : 0 } }]
    }
  }
  if (wire === 'gemini') {
    if (chance.happens(0.5)) [used.input, used.read] = [used.input + large(chance), large(chance)]
    if (chance.happens(0.5)) [used.reasoning, used.output] = [3000, used.output + 3000]
    if (chance.happens(0.3)) [used.tool, used.input] = [700, used.input + 700]
    if (answer.model !== 'gemini-2.5-pro' && chance.happens(0.3)) used.audioIn = large(chance)
    if (chance.happens(0.3)) answer.units = answer.model.includes('-3-') ? { query: chance.whole(1, 4) } : { grounded: 1 }
    tiers([['fast', 'ON_DEMAND_PRIORITY'], ['flex', 'ON_DEMAND_FLEX'], ['standard', 'ON_DEMAND']], 0.5, (word) => (answer.said.trafficType = word))
  }
  if (wire === 'converse' && chance.happens(0.7)) [used.read, used.write, used.long] = [large(chance), large(chance), chance.happens(0.5) ? large(chance) : 0]
}

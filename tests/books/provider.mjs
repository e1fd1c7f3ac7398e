// A provider of every API, with books of its own: `node provider.mjs ROOT SEED`. Prints its port.
//
// The header `x-book` is the number of a call, `x-act` says in JSON what shall go wrong with it. Everything else (words, tokens, tiers,
// tools) the provider decides itself. GET /books gives its bills, one JSON a line.

import http from 'node:http'
import { gunzipSync, gzipSync } from 'node:zlib'
import { Batches } from './batches.mjs'
import { Chance } from './chance.mjs'
import { sockets } from './sockets.mjs'
import { chat, converse, gemini, invoke, messages, responses } from './wires.mjs'
import { Desk } from './work.mjs'

const [root, seed] = [process.argv[2], Number(process.argv[3])]
const desk = new Desk(root, seed)
const batches = new Batches(desk)
const background = new Map()

const SSE = 'text/event-stream; charset=utf-8'
const FRAMES = 'application/vnd.amazon.eventstream'

function json(res, body, { status = 200, headers = {}, gzip = false } = {}) {
  let bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
  const more = { 'content-type': 'application/json', ...headers }
  if (gzip) [bytes, more['content-encoding']] = [gzipSync(bytes), 'gzip']
  res.writeHead(status, { ...more, 'content-length': bytes.length })
  res.end(bytes)
}

/// Sends a stream: whole, or up to a byte within its content. Gives the tokens of the text that was sent, or null if all was.
async function stream(res, events, type, act, chance, gzip) {
  const sizes = events.map((event) => event.bytes.length)
  const all = Buffer.concat(events.map((event) => event.bytes))
  if (!act.cut) {
    if (gzip) {
      res.writeHead(200, { 'content-type': type, 'content-encoding': 'gzip' })
      res.end(gzipSync(all))
      return null
    }
    res.writeHead(200, { 'content-type': type })
    const parts = act.pace ? 6 : chance.whole(1, 3)
    const step = Math.ceil(all.length / parts)
    for (let at = 0; at < all.length; at += step) {
      res.write(all.subarray(at, at + step))
      // A pace is the provider's, as a model has one. It keeps calls in flight; nothing waits for it.
      if (act.pace) await new Promise((done) => setTimeout(done, act.pace))
    }
    res.end()
    return null
  }
  const speaking = events.map((event, at) => (event.tokens > 0 ? at : -1)).filter((at) => at >= 0)
  const offset = (at) => sizes.slice(0, at).reduce((sum, size) => sum + size, 0)
  // After the first words, before the last ones.
  const [least, most] = [offset(speaking[0] + 1), offset(speaking.at(-1))]
  const end = chance.whole(least, Math.max(least, most))
  let [whole, spoken] = [0, 0]
  for (let at = 0, sum = 0; at < events.length && (sum += sizes[at]) <= end; at++) [whole, spoken] = [whole + 1, spoken + events[at].tokens]
  res.writeHead(200, { 'content-type': type, 'x-sent-events': whole, 'x-sent-bytes': end })
  res.write(all.subarray(0, end), () => act.cut === 'provider' && setImmediate(() => res.destroy()))
  return spoken
}

/// Answers a call of one of the APIs that stream.
async function answer(req, res, { provider, wire, asked, prompt, most, streams, asks, book, act }) {
  const attempt = desk.attempt(book)
  const failure = act.fail?.[attempt - 1]
  if (failure) return json(res, { error: { message: 'try again', type: 'server_error', code: null } }, { status: failure, headers: { 'retry-after-ms': '5' } })
  if (act.hold) await new Promise((done) => setTimeout(done, act.hold))
  const chance = new Chance(seed, `sends ${book} ${attempt}`)
  const form = { chat, responses, messages, gemini, converse, invoke }[wire]
  // What answers has a date in its name, as it often has.
  const model = wire === 'chat' && asked.startsWith('gpt-4o-mini') ? `${asked}-2024-07-18` : asked
  const reply = desk.answer(wire === 'invoke' ? 'converse' : wire, model, prompt, book, wire === 'invoke' ? { ...act, wild: false } : act, most)
  reply.untold = act.untold
  // Who is not there to read it is billed all that was allowed.
  if (act.left) reply.used.output = most
  const gzip = act.gzip && /gzip/.test(req.headers['accept-encoding'] ?? '')
  if (!streams) {
    desk.bill(book, provider, asked, act.untold ? 'untold' : act.left ? 'cut' : 'reported', desk.call(reply))
    return json(res, form.whole(reply), { gzip })
  }
  const framed = wire === 'converse' || wire === 'invoke'
  const type = framed ? FRAMES : asks.list ? 'application/json' : SSE
  const events = asks.list ? gemini.list(reply) : form.stream(reply, { asked: asks.usage, style: act.style })
  const untold = act.untold || (wire === 'chat' && !asks.usage)
  const spoken = await stream(res, events, type, act, chance, gzip)
  if (spoken === null) desk.bill(book, provider, asked, untold ? 'untold' : act.left ? 'cut' : 'reported', desk.call(reply))
  else desk.bill(book, provider, asked, 'cut', { ...desk.call(reply), used: { ...reply.used, output: desk.scaled(model, spoken) }, units: {}, parts: [] })
}

const text = (content) => (typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join(''))

function openai(req, res, call, path, body) {
  const { provider, book, act } = call
  const asked = body.model
  if (path.endsWith('/chat/completions')) {
    const prompt = desk.prompt(asked, body.messages.map((message) => text(message.content)))
    const asks = { usage: body.stream_options?.include_usage === true }
    return answer(req, res, { ...call, wire: 'chat', asked, prompt, most: body.max_tokens, streams: body.stream === true, asks })
  }
  if (path.endsWith('/responses/compact') || path.endsWith('/responses')) {
    const inputs = typeof body.input === 'string' ? [body.input] : body.input.map((item) => text(item.content))
    const prompt = desk.prompt(asked, inputs)
    if (body.background) return begin(res, call, asked, prompt)
    return answer(req, res, { ...call, wire: 'responses', asked, prompt, streams: body.stream === true, asks: {} })
  }
  if (path.endsWith('/embeddings')) {
    const inputs = Array.isArray(body.input) ? body.input : [body.input]
    const input = inputs.reduce((sum, one) => sum + desk.tokens(asked, one), 0)
    desk.bill(book, provider, asked, 'reported', { model: asked, used: { input } })
    const data = inputs.map((_, index) => ({ object: 'embedding', index, embedding: body.encoding_format === 'base64' ? 'AACAPwAAgD8=' : [1, 1] }))
    return json(res, { object: 'list', data, model: asked, usage: { prompt_tokens: input, total_tokens: input } })
  }
  if (path.endsWith('/images/generations')) {
    const used = { input: desk.tokens(asked, body.prompt), imageOut: 1056 * new Chance(seed, `image ${book}`).whole(1, 4) }
    desk.bill(book, provider, asked, 'reported', { model: asked, used })
    const usage = { input_tokens: used.input, input_tokens_details: { image_tokens: 0, text_tokens: used.input }, output_tokens: used.imageOut, total_tokens: used.input + used.imageOut }
    return json(res, { created: 1796000000, data: [{ b64_json: 'iVBORw0KGgo=' }], usage })
  }
  if (path.endsWith('/moderations')) return json(res, { id: 'modr-1', model: asked, results: [{ flagged: false }] })
  return json(res, { error: { message: `no ${path} here` } }, { status: 404 })
}

function transcribe(res, { provider, book }, form) {
  const asked = /name="model"\r\n\r\n([^\r]+)/.exec(form.toString('latin1'))[1]
  const chance = new Chance(seed, `sound ${book}`)
  if (asked === 'whisper-1') {
    const seconds = chance.whole(1, 600)
    desk.bill(book, provider, asked, 'reported', { model: asked, used: {}, units: { seconds } })
    return json(res, { text: 'Good morning.', usage: { type: 'duration', seconds } })
  }
  const used = { input: chance.whole(0, 20), audioIn: chance.whole(20, 2000), output: chance.whole(3, 300) }
  desk.bill(book, provider, asked, 'reported', { model: asked, used })
  const usage = { type: 'tokens', input_tokens: used.input + used.audioIn, input_token_details: { audio_tokens: used.audioIn, text_tokens: used.input }, output_tokens: used.output, total_tokens: used.input + used.audioIn + used.output }
  return json(res, { text: 'Good morning.', usage })
}

/// Begins a response in the background.
function begin(res, { provider, book, act }, asked, prompt) {
  const reply = { ...desk.answer('responses', asked, prompt, book, act), background: true }
  background.set(reply.id, { provider, book, asked, reply, polls: 0 })
  return json(res, responses.whole(reply, 'queued'))
}

function poll(res, id) {
  const work = background.get(id)
  if (!work) return json(res, { error: { message: 'no such response' } }, { status: 404 })
  work.polls += 1
  if (work.polls < 2) return json(res, responses.whole(work.reply, 'in_progress'))
  if (!work.billed) desk.bill(work.book, work.provider, work.asked, 'reported', desk.call(work.reply))
  work.billed = true
  return json(res, responses.whole(work.reply))
}

function other(req, res, call, path, body) {
  const bedrock = /^\/model\/([^/]+)\/(converse|invoke)(-stream|-with-response-stream)?$/.exec(path)
  if (bedrock) {
    const [, model, wire, streams] = bedrock
    const asked = decodeURIComponent(model)
    const prompt = desk.prompt(asked, body.messages.map((message) => text(message.content)))
    return answer(req, res, { ...call, wire, asked, prompt, streams: Boolean(streams), asks: {} })
  }
  const google = /\/models\/([^/:]+):(\w+)/.exec(path)
  if (google?.[2] === 'batchEmbedContents' || google?.[2] === 'embedContent') {
    const input = desk.tokens(google[1], (body.content ?? body.requests[0].content).parts[0].text)
    desk.bill(call.book, call.provider, google[1], 'reported', { model: google[1], used: { input } })
    return json(res, { embedding: { values: [1] }, usageMetadata: { promptTokenCount: input, totalTokenCount: input } })
  }
  if (google) {
    const prompt = desk.prompt(google[1], body.contents.map((content) => text(content.parts)))
    const streams = google[2] === 'streamGenerateContent'
    return answer(req, res, { ...call, wire: 'gemini', asked: google[1], prompt, streams, asks: { list: streams && !path.includes('alt=sse') } })
  }
  const prompt = desk.prompt(body.model, body.messages.map((message) => text(message.content)))
  return answer(req, res, { ...call, wire: 'messages', asked: body.model, prompt, streams: body.stream === true, asks: {} })
}

async function serve(req, res) {
  const chunks = []
  for await (const chunk of req) chunks.push(chunk)
  let body = Buffer.concat(chunks)
  if (req.headers['content-encoding'] === 'gzip') body = gunzipSync(body)
  if (req.url === '/books') return json(res, desk.records.map((record) => JSON.stringify(record)).join('\n'))
  const [, provider, path] = /^\/([^/]+)(\/.*)$/.exec(req.url)
  const call = { provider, book: Number(req.headers['x-book']), act: JSON.parse(req.headers['x-act'] ?? '{}') }
  const batch = batches.answer(req, call, path, body)
  if (batch) return json(res, batch)
  const responding = /\/responses\/([^/]+)$/.exec(path)
  if (req.method === 'GET' && responding) return poll(res, responding[1])
  if (path.endsWith('/audio/transcriptions')) return transcribe(res, call, body)
  const asked = JSON.parse(body)
  if (asked.user) call.book = Number(asked.user)
  const known = /\/(chat\/completions|responses|responses\/compact|embeddings|images\/generations|moderations)$/.test(path)
  await (known ? openai : other)(req, res, call, path, asked)
}

// One bad request shows itself, and the books of all others stay.
const server = http.createServer({ keepAliveTimeout: 60_000 }, (req, res) => serve(req, res).catch((error) => {
  console.error(req.url, error)
  res.destroy()
}))
process.on('uncaughtException', (error) => console.error(error))
sockets(server, desk)
server.listen(0, '127.0.0.1', () => console.log(server.address().port))

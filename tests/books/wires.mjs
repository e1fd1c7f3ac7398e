// Answers as each provider writes them: whole, and as a stream of events of which some carry text.
//
// `answer` has `id`, `model`, `text`, `pieces`, `used` (tokens in disjoint classes), `said` (words about tier, speed, region), `units`
// and `parts`. A stream is a list of `{bytes, tokens}`: the tokens of text that the event carries. `final` marks the event that states
// the usage for good.

import { crc32 } from 'node:zlib'

const sum = (...figures) => figures.reduce((all, figure) => all + (figure ?? 0), 0)
const sse = (data, name) => Buffer.from(`${name ? `event: ${name}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)

// --- OpenAI --------------------------------------------------------------------------------------

export function chatUsage(used) {
  const prompt = sum(used.input, used.read, used.write, used.long, used.audioIn)
  const completion = sum(used.output, used.audioOut)
  return {
    prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: used.read ?? 0, audio_tokens: used.audioIn ?? 0 },
    completion_tokens_details: { reasoning_tokens: used.reasoning ?? 0, audio_tokens: used.audioOut ?? 0 },
  }
}

export function responsesUsage(used) {
  const input = sum(used.input, used.read, used.write, used.long)
  const details = { cached_tokens: used.read ?? 0, cache_write_tokens: sum(used.write, used.long) }
  if (used.long) details.cache_write_tokens_details = { ttl_12h_tokens: used.long }
  return {
    input_tokens: input, input_tokens_details: details, output_tokens: used.output,
    output_tokens_details: { reasoning_tokens: used.reasoning ?? 0 }, total_tokens: input + used.output,
  }
}

export const chat = {
  whole: (answer) => ({
    id: answer.id, object: 'chat.completion', created: 1796000000, model: answer.model, ...answer.said,
    choices: [{ index: 0, message: { role: 'assistant', content: answer.text, refusal: null }, logprobs: null, finish_reason: 'stop' }],
    ...(answer.untold ? {} : { usage: chatUsage(answer.used) }),
  }),
  /// `asked`: the request wants usage. `style`: `last` as OpenAI does it, `cumulative` in every chunk, `late` after [DONE]'s finish.
  stream: (answer, { asked, style = 'last' }) => {
    const chunk = (choices, more = {}) => sse({ id: answer.id, object: 'chat.completion.chunk', created: 1796000000, model: answer.model, ...answer.said, choices, ...more })
    const delta = (delta, finish_reason = null) => [{ index: 0, delta, logprobs: null, finish_reason }]
    const told = asked && !answer.untold
    const none = told && style === 'last' ? { usage: null } : {}
    const out = [{ bytes: chunk(delta({ role: 'assistant', content: '' }), none), tokens: 0 }]
    let spoken = 0
    for (const piece of answer.pieces) {
      spoken += piece.tokens
      const running = told && style === 'cumulative' ? { usage: chatUsage({ ...answer.used, output: Math.min(spoken, answer.used.output), reasoning: 0 }) } : none
      out.push({ bytes: chunk(delta({ content: piece.text }), running), tokens: piece.tokens })
    }
    const last = told && style === 'cumulative' ? { usage: chatUsage(answer.used) } : none
    out.push({ bytes: chunk(delta({}, 'stop'), last), tokens: 0, final: told && style === 'cumulative' })
    if (told && style !== 'cumulative') out.push({ bytes: chunk([], { usage: chatUsage(answer.used) }), tokens: 0, final: true })
    out.push({ bytes: sse('[DONE]'), tokens: 0 })
    return out
  },
}

function response(answer, status, more = {}) {
  return {
    id: answer.id, object: 'response', created_at: 1796000000, status, background: answer.background ?? false, error: null, incomplete_details: null,
    instructions: null, model: answer.model, output: [], tools: [], usage: null, ...answer.said, ...more,
  }
}

function output(answer) {
  const items = []
  for (let n = 0; n < (answer.units?.search ?? 0); n++) items.push({ id: `ws_${n}`, type: 'web_search_call', status: 'completed', action: { type: 'search', query: 'tides' } })
  for (let n = 0; n < (answer.units?.file ?? 0); n++) items.push({ id: `fs_${n}`, type: 'file_search_call', status: 'completed', queries: ['tides'], results: null })
  for (let n = 0; n < (answer.units?.container ?? 0); n++) items.push({ id: `ci_${n}`, type: 'code_interpreter_call', status: 'completed', container_id: `cntr_${n}`, code: '1', outputs: null })
  items.push({ id: 'msg_1', type: 'message', status: 'completed', role: 'assistant', content: [{ type: 'output_text', text: answer.text, annotations: [] }] })
  return items
}

export const responses = {
  whole: (answer, status = 'completed') => response(answer, status, status === 'completed' ? { output: output(answer), usage: responsesUsage(answer.used) } : {}),
  /// The events as objects: a WebSocket sends them as messages.
  events: (answer) => {
    const out = []
    const say = (type, data, more = {}) => out.push({ event: { type, sequence_number: out.length, ...data }, tokens: 0, ...more })
    say('response.created', { response: response(answer, 'in_progress') })
    say('response.in_progress', { response: response(answer, 'in_progress') })
    for (const item of output(answer).slice(0, -1)) say('response.output_item.done', { output_index: out.length, item })
    for (const piece of answer.pieces) {
      say('response.output_text.delta', { item_id: 'msg_1', output_index: 0, content_index: 0, delta: piece.text, logprobs: [] }, { tokens: piece.tokens })
    }
    say('response.output_text.done', { item_id: 'msg_1', output_index: 0, content_index: 0, text: answer.text, logprobs: [] })
    say('response.completed', { response: responses.whole(answer) }, { final: true })
    return out
  },
  stream: (answer) => responses.events(answer).map(({ event, ...more }) => ({ bytes: sse(event, event.type), ...more })),
}

// --- Anthropic -----------------------------------------------------------------------------------

export function messagesUsage(used) {
  return {
    input_tokens: used.input, cache_creation_input_tokens: sum(used.write, used.long), cache_read_input_tokens: used.read ?? 0,
    cache_creation: { ephemeral_5m_input_tokens: used.write ?? 0, ephemeral_1h_input_tokens: used.long ?? 0 }, output_tokens: used.output,
  }
}

// The answer's own figures leave out compactions and advisers; those stand in the list alone, beside the answer's own pass.
function passes(answer) {
  if (!answer.parts?.length) return {}
  const others = answer.parts.map((part) => ({ type: part.type, ...(part.model ? { model: part.model } : {}), ...messagesUsage(part.used) }))
  return { iterations: [...others, { type: 'message', ...messagesUsage(answer.used) }] }
}

function searches(answer) {
  return answer.units?.search ? { server_tool_use: { web_search_requests: answer.units.search, web_fetch_requests: 0 } } : {}
}

export const messages = {
  whole: (answer) => ({
    id: answer.id, type: 'message', role: 'assistant', model: answer.model, stop_sequence: null, content: [{ type: 'text', text: answer.text }],
    stop_reason: 'end_turn', usage: { ...messagesUsage(answer.used), ...answer.said, ...searches(answer), ...passes(answer) },
  }),
  events: (answer) => {
    const out = []
    const say = (type, data, more = {}) => out.push({ event: { type, ...data }, tokens: 0, ...more })
    const begun = { ...messagesUsage({ ...answer.used, output: 1 }), ...answer.said }
    say('message_start', { message: { ...messages.whole(answer), content: [], stop_reason: null, usage: begun } })
    say('content_block_start', { index: 0, content_block: { type: 'text', text: '' } })
    say('ping', {})
    for (const piece of answer.pieces) say('content_block_delta', { index: 0, delta: { type: 'text_delta', text: piece.text } }, { tokens: piece.tokens })
    say('content_block_stop', { index: 0 })
    const usage = answer.parts?.length ? { ...messagesUsage(answer.used), ...passes(answer) } : { output_tokens: answer.used.output }
    say('message_delta', { delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { ...usage, ...searches(answer) } }, { final: true })
    say('message_stop', {})
    return out
  },
  stream: (answer) => messages.events(answer).map(({ event, ...more }) => ({ bytes: sse(event, event.type), ...more })),
}

// --- Gemini --------------------------------------------------------------------------------------

export function geminiUsage(used, said = {}) {
  const prompt = sum(used.input, used.read, used.audioIn) - (used.tool ?? 0)
  const thoughts = used.reasoning ?? 0
  const candidates = used.output - thoughts
  const usage = { promptTokenCount: prompt, candidatesTokenCount: candidates, totalTokenCount: sum(prompt, candidates, thoughts, used.tool) }
  if (used.read) usage.cachedContentTokenCount = used.read
  if (used.tool) usage.toolUsePromptTokenCount = used.tool
  if (thoughts) usage.thoughtsTokenCount = thoughts
  usage.promptTokensDetails = [{ modality: 'TEXT', tokenCount: prompt - (used.audioIn ?? 0) }]
  if (used.audioIn) usage.promptTokensDetails.push({ modality: 'AUDIO', tokenCount: used.audioIn })
  return { ...usage, ...said }
}

const grounding = (answer) => {
  const count = answer.units?.query ?? answer.units?.grounded ?? 0
  if (!count) return {}
  return { groundingMetadata: { webSearchQueries: Array.from({ length: count }, (_, n) => `tides ${n}`), groundingChunks: [{ web: { uri: 'https://example.com', title: 't' } }] } }
}

export const gemini = {
  whole: (answer) => ({
    candidates: [{ content: { parts: [{ text: answer.text }], role: 'model' }, index: 0, finishReason: 'STOP', ...grounding(answer) }],
    usageMetadata: geminiUsage(answer.used, answer.said), modelVersion: answer.model, responseId: answer.id,
  }),
  chunks: (answer) => {
    let spoken = 0
    return answer.pieces.map((piece, at) => {
      spoken += piece.tokens
      const last = at === answer.pieces.length - 1
      const used = last ? answer.used : { ...answer.used, output: spoken, reasoning: 0 }
      const candidate = { content: { parts: [{ text: piece.text }], role: 'model' }, index: 0, ...(last ? { finishReason: 'STOP', ...grounding(answer) } : {}) }
      return { event: { candidates: [candidate], usageMetadata: geminiUsage(used, answer.said), modelVersion: answer.model, responseId: answer.id }, tokens: piece.tokens, final: last }
    })
  },
  stream: (answer) => gemini.chunks(answer).map(({ event, ...more }) => ({ bytes: sse(event), ...more })),
  list: (answer) => {
    const chunks = gemini.chunks(answer)
    const text = (event, at) => `${at === 0 ? '[' : ',\r\n'}${JSON.stringify(event)}${at === chunks.length - 1 ? ']' : ''}`
    return chunks.map(({ event, ...more }, at) => ({ bytes: Buffer.from(text(event, at)), ...more }))
  },
}

// --- Bedrock -------------------------------------------------------------------------------------

/// A message of application/vnd.amazon.eventstream.
function frame(type, payload) {
  const field = (name, value) => Buffer.concat([Buffer.from([name.length]), Buffer.from(name), Buffer.from([7, value.length >> 8, value.length & 255]), Buffer.from(value)])
  const headers = Buffer.concat([field(':event-type', type), field(':content-type', 'application/json'), field(':message-type', 'event')])
  const body = Buffer.from(JSON.stringify(payload))
  const prelude = Buffer.alloc(12)
  prelude.writeUInt32BE(16 + headers.length + body.length, 0)
  prelude.writeUInt32BE(headers.length, 4)
  prelude.writeUInt32BE(crc32(prelude.subarray(0, 8)), 8)
  const message = Buffer.concat([prelude, headers, body])
  const end = Buffer.alloc(4)
  end.writeUInt32BE(crc32(message), 0)
  return Buffer.concat([message, end])
}

function converseUsage(used) {
  const total = sum(used.input, used.read, used.write, used.long, used.output)
  const usage = { inputTokens: used.input, outputTokens: used.output, totalTokens: total }
  if (used.read) usage.cacheReadInputTokens = used.read
  if (used.write || used.long) {
    usage.cacheWriteInputTokens = sum(used.write, used.long)
    usage.cacheDetails = [{ ttl: '5m', inputTokens: used.write ?? 0 }, { ttl: '1h', inputTokens: used.long ?? 0 }]
  }
  return usage
}

export const converse = {
  whole: (answer) => ({
    metrics: { latencyMs: 9 }, output: { message: { role: 'assistant', content: [{ text: answer.text }] } }, stopReason: 'end_turn', usage: converseUsage(answer.used),
  }),
  stream: (answer) => [
    { bytes: frame('messageStart', { role: 'assistant' }), tokens: 0 },
    ...answer.pieces.map((piece) => ({ bytes: frame('contentBlockDelta', { contentBlockIndex: 0, delta: { text: piece.text } }), tokens: piece.tokens })),
    { bytes: frame('messageStop', { stopReason: 'end_turn' }), tokens: 0 },
    { bytes: frame('metadata', { metrics: { latencyMs: 9 }, usage: converseUsage(answer.used) }), tokens: 0, final: true },
  ],
}

export const invoke = {
  whole: (answer) => messages.whole(answer),
  stream: (answer) => {
    const events = messages.events(answer)
    const metrics = { inputTokenCount: answer.used.input, outputTokenCount: answer.used.output, invocationLatency: 9, firstByteLatency: 3 }
    events.at(-1).event['amazon-bedrock-invocationMetrics'] = metrics
    return events.map(({ event, ...more }) => ({ bytes: frame('chunk', { bytes: Buffer.from(JSON.stringify(event)).toString('base64'), p: 'abc' }), ...more }))
  },
}

// --- Realtime ------------------------------------------------------------------------------------

export function realtimeEvents(answer) {
  const { used } = answer
  const input = sum(used.input, used.read, used.audioIn, used.audioRead)
  const outputs = sum(used.output, used.audioOut)
  const usage = {
    total_tokens: input + outputs, input_tokens: input, output_tokens: outputs,
    input_token_details: {
      text_tokens: sum(used.input, used.read), audio_tokens: sum(used.audioIn, used.audioRead), cached_tokens: sum(used.read, used.audioRead),
      cached_tokens_details: { text_tokens: used.read ?? 0, audio_tokens: used.audioRead ?? 0 },
    },
    output_token_details: { text_tokens: used.output, audio_tokens: used.audioOut ?? 0 },
  }
  const base = { object: 'realtime.response', id: answer.id, output: [] }
  return [
    { event: { type: 'response.created', event_id: 'e', response: { ...base, status: 'in_progress' } }, tokens: 0 },
    ...answer.pieces.map((piece) => ({
      event: { type: 'response.output_text.delta', event_id: 'e', response_id: answer.id, item_id: 'i', output_index: 0, content_index: 0, delta: piece.text }, tokens: piece.tokens,
    })),
    { event: { type: 'response.done', event_id: 'e', response: { ...base, status: 'completed', usage } }, tokens: 0, final: true },
  ]
}

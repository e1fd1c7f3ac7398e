// Every kind of call. A kind has a `weight`, and `run(s)`: a user's session makes its calls. `s.prompt()` is a text of its own.
//
// `right(answer)` fails the run where an answer that must come does not.

const CHAT = '/openai/v1/chat/completions'
const ANSWERS = '/openai/v1/responses'

function right(answer, status = 200) {
  if (answer.status !== status || answer.broke) throw new Error(`${answer.status}${answer.broke ? ', broken off' : ''}: ${answer.body.toString().slice(0, 300)}`)
  return answer
}

const chatBody = (s, model, more = {}) => ({ model, messages: [{ role: 'system', content: 'You are brief.' }, { role: 'user', content: s.prompt() }], ...more })
const usage = { stream: true, stream_options: { include_usage: true } }
const claudeBody = (s, model, more = {}) => ({ model, max_tokens: 4096, messages: [{ role: 'user', content: s.prompt() }], ...more })
const geminiBody = (s) => ({ contents: [{ role: 'user', parts: [{ text: s.prompt() }] }] })
const converseBody = (s) => ({ messages: [{ role: 'user', content: [{ text: s.prompt() }] }] })

/// A kind that is one request.
const one = (name, weight, outbound, request) => ({
  name, weight,
  run: async (s) => {
    const call = await s.begin(name, outbound)
    const asked = request(s, call)
    const answer = await s.request(call, asked)
    if (asked.leaves === undefined && asked.act?.cut === undefined) right(answer)
    call.done = true
  },
})

/// A kind whose stream breaks off within its content: the client leaves, or the provider does.
const cut = (name, weight, outbound, request) => ['client', 'provider'].map((by) => one(`${name}, cut by the ${by}`, weight, outbound, (s) => {
  const asked = request(s)
  return { ...asked, act: { ...asked.act, cut: by }, leaves: by === 'client' ? 'sent' : undefined }
}))

/// Identical calls at once: the first makes the call, the others join it. With `leaves` the first goes away before its end.
const together = (name, weight, body, leaves) => ({
  name, weight,
  run: async (s) => {
    const asked = body(s)
    const joiners = s.chance.whole(1, 4)
    const calls = []
    for (let n = 0; n <= joiners; n++) calls.push(await s.begin(name, 'shared'))
    const act = { hold: 60, pace: leaves ? 10 : 0 }
    const answers = await Promise.all(calls.map((call, n) => s.request(call, { path: CHAT, body: asked, act, leaves: leaves && n === 0 ? 70 + s.chance.whole(0, 40) : undefined })))
    answers.slice(leaves ? 1 : 0).forEach((answer) => right(answer))
    // Whoever leads pays, and all of them are one user.
    for (const call of calls) [call.done, call.visits[0].ended] = [true, Math.max(...calls.map((each) => each.visits[0].ended))]
  },
})

const failures = [[503], [500, 429], [429], [502, 503]]

const CHATS = [
  one('chat', 12, 'talk', (s) => ({ path: CHAT, body: chatBody(s, s.chance.of(['gpt-4o', 'gpt-4o-mini'])) })),
  one('chat, tiers and classes', 6, 'talk', (s) => ({ path: CHAT, body: chatBody(s, s.chance.of(['gpt-4o', 'gpt-5-mini', 'o4-mini', 'gpt-audio'])), act: { wild: true } })),
  one('chat, gzip', 3, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-4o'), act: { gzip: true } })),
  one('chat, streamed', 10, 'talk', (s) => ({ path: CHAT, body: chatBody(s, s.chance.of(['gpt-4o', 'gpt-4o-mini']), usage) })),
  one('chat, streamed, the app asks no usage', 4, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-4o', { stream: true }) })),
  one('chat, streamed, gzip', 2, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-4o', usage), act: { gzip: true } })),
  one('chat, streamed, tiers and classes', 3, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-5-mini', usage), act: { wild: true } })),
  ...cut('chat', 3, 'talk', (s) => ({ path: CHAT, body: chatBody(s, s.chance.of(['gpt-4o', 'gpt-4o-mini']), usage) })),
  one('chat, retried', 4, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-4o'), act: { fail: s.chance.of(failures) } })),
  // Fields that are not the API's do not go to another provider: the body has the call's number too.
  one('chat, fallen back', 3, 'fall', (s, call) => ({ path: CHAT, body: chatBody(s, 'gpt-4.1', { user: `${call.book}` }), act: { fail: [503, 500] } })),
  one('chat, fallen back, streamed', 2, 'fall', (s, call) => ({ path: CHAT, body: chatBody(s, 'gpt-4.1', { ...usage, user: `${call.book}` }), act: { fail: [503, 500] } })),
  one('chat, the client leaves before the head', 1, 'talk', (s) => ({ path: CHAT, body: chatBody(s, 'gpt-4o', { max_tokens: 300 }), act: { left: true, hold: 150 }, leaves: 90 })),
  one('chat, from a server that counts in every chunk', 2, 'house', (s) => ({ path: '/house/v1/chat/completions', body: chatBody(s, 'house-large', usage), act: { style: 'cumulative' } })),
  one('chat, from a server that says no usage', 1, 'house', (s) => ({ path: '/house/v1/chat/completions', body: chatBody(s, 'house-large', s.chance.happens(0.5) ? usage : {}), act: { untold: true } })),
  together('chat, at once', 2, (s) => chatBody(s, 'gpt-4.1-nano')),
  together('chat, at once, streamed', 2, (s) => chatBody(s, 'gpt-4.1-nano', usage)),
  together('chat, at once, the leader leaves', 1, (s) => chatBody(s, 'gpt-4.1-nano', usage), true),
  {
    name: 'chat, cached', weight: 3,
    run: async (s) => {
      const body = chatBody(s, 'gpt-4.1-nano', s.chance.happens(0.5) ? usage : {})
      // The last one asks another replica, which knows nothing of this one's request.
      for (const asks of [s, s, s.elsewhere()]) {
        const call = await asks.begin('chat, cached', 'shared')
        right(await asks.request(call, { path: CHAT, body }))
        call.done = true
      }
    },
  },
]

const RESPONSES = [
  one('responses', 5, 'answers', (s) => ({ path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt() } })),
  one('responses, tiers, classes, tools', 5, 'answers', (s) => ({ path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt() }, act: { wild: true } })),
  one('responses, streamed', 4, 'answers', (s) => ({ path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt(), stream: true } })),
  one('responses, streamed, tiers, classes, tools', 3, 'answers', (s) => ({ path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt(), stream: true }, act: { wild: true } })),
  ...cut('responses', 2, 'answers', (s) => ({ path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt(), stream: true } })),
  one('responses, compacted', 1, 'answers', (s) => ({ path: `${ANSWERS}/compact`, body: { model: 'gpt-6.2-sol', input: s.prompt() } })),
  {
    name: 'responses, in the background', weight: 2,
    run: async (s) => {
      const call = await s.begin('responses, in the background', 'answers')
      const { id } = JSON.parse(right(await s.request(call, { path: ANSWERS, body: { model: 'gpt-6.2-sol', input: s.prompt(), background: true }, act: { wild: s.chance.happens(0.5) } })).body)
      // Asked more often than it takes, and by more than one replica.
      for (let polls = 0; polls < 4; polls++) right(await s.request(call, { method: 'GET', path: `${ANSWERS}/${id}`, proxy: s.chance.happens(0.3) ? s.other() : s.proxy }))
      call.done = true
    },
  },
]

const CLAUDE = '/anthropic/v1/messages'
const version = { 'anthropic-version': '2023-06-01' }
const claudes = ['claude-opus-5', 'claude-sonnet-5', 'claude-haiku-4-5']

const MESSAGES = [
  one('messages', 6, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, s.chance.of(claudes)) })),
  one('messages, classes, passes, tools, regions', 6, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, s.chance.of(claudes)), act: { wild: true } })),
  one('messages, streamed', 5, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, s.chance.of(claudes), { stream: true }) })),
  one('messages, streamed, classes, passes, tools, regions', 4, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, s.chance.of(claudes), { stream: true }), act: { wild: true } })),
  ...cut('messages', 2, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, s.chance.of(claudes), { stream: true }) })),
  one('messages, retried', 1, 'claude', (s) => ({ path: CLAUDE, headers: version, body: claudeBody(s, 'claude-sonnet-5'), act: { fail: [529] } })),
]

const flash = (verb, model = 'gemini-2.5-flash') => `/gemini/v1beta/models/${model}:${verb}`
const geminis = ['gemini-2.5-flash', 'gemini-3-flash-preview', 'gemini-2.5-pro']

const GEMINI = [
  one('gemini', 4, 'flash', (s) => ({ path: flash('generateContent', s.chance.of(geminis)), body: geminiBody(s) })),
  one('gemini, classes, searches, tiers', 4, 'flash', (s) => ({ path: flash('generateContent', s.chance.of(geminis)), body: geminiBody(s), act: { wild: true } })),
  one('gemini, streamed', 3, 'flash', (s) => ({ path: flash('streamGenerateContent?alt=sse', s.chance.of(geminis)), body: geminiBody(s) })),
  one('gemini, streamed, classes, searches, tiers', 2, 'flash', (s) => ({ path: flash('streamGenerateContent?alt=sse', s.chance.of(geminis)), body: geminiBody(s), act: { wild: true } })),
  one('gemini, streamed as a list', 2, 'flash', (s) => ({ path: flash('streamGenerateContent', s.chance.of(geminis)), body: geminiBody(s), act: { wild: s.chance.happens(0.5) } })),
  ...cut('gemini', 1, 'flash', (s) => ({ path: flash('streamGenerateContent?alt=sse'), body: geminiBody(s) })),
  ...cut('gemini as a list', 1, 'flash', (s) => ({ path: flash('streamGenerateContent'), body: geminiBody(s) })),
  one('gemini, vectors', 1, 'flash', (s) => ({ path: flash('embedContent', 'gemini-embedding-001'), body: { content: { parts: [{ text: s.prompt() }] } } })),
]

const rock = (verb) => `/bedrock/model/${encodeURIComponent('anthropic.claude-sonnet-4-5-20250929-v1:0')}/${verb}`

const BEDROCK = [
  one('converse', 3, 'rock', (s) => ({ path: rock('converse'), body: converseBody(s) })),
  one('converse, classes', 2, 'rock', (s) => ({ path: rock('converse'), body: converseBody(s), act: { wild: true } })),
  one('converse, streamed', 3, 'rock', (s) => ({ path: rock('converse-stream'), body: converseBody(s), act: { wild: s.chance.happens(0.5) } })),
  ...cut('converse', 1, 'rock', (s) => ({ path: rock('converse-stream'), body: converseBody(s) })),
  one('invoke', 2, 'rock', (s) => ({ path: rock('invoke'), body: claudeBody(s, undefined, { anthropic_version: 'bedrock-2023-05-31' }) })),
  one('invoke, streamed', 2, 'rock', (s) => ({ path: rock('invoke-with-response-stream'), body: claudeBody(s, undefined, { anthropic_version: 'bedrock-2023-05-31' }) })),
  ...cut('invoke', 1, 'rock', (s) => ({ path: rock('invoke-with-response-stream'), body: claudeBody(s, undefined, { anthropic_version: 'bedrock-2023-05-31' }) })),
]

/// A form of these fields; a field may be a file.
function form(fields) {
  const parts = Object.entries(fields).map(([name, value]) => {
    const file = typeof value === 'object'
    const head = `--books\r\nContent-Disposition: form-data; name="${name}"${file ? `; filename="${value.name}"\r\nContent-Type: application/octet-stream` : ''}\r\n\r\n`
    return `${head}${file ? value.text : value}\r\n`
  })
  return { body: Buffer.from(`${parts.join('')}--books--\r\n`), headers: { 'content-type': 'multipart/form-data; boundary=books' } }
}

const REST = [
  {
    name: 'vectors', weight: 5,
    run: async (s) => {
      const body = { model: s.chance.of(['text-embedding-3-small', 'text-embedding-3-large']), input: [s.prompt(), s.prompt()], encoding_format: s.chance.of(['float', 'base64']) }
      for (let n = 0; n < s.chance.whole(1, 3); n++) {
        const call = await s.begin('vectors', 'vectors')
        right(await s.request(call, { path: '/openai/v1/embeddings', body }))
        call.done = true
      }
    },
  },
  one('pictures', 1, 'rest', (s) => ({ path: '/openai/v1/images/generations', body: { model: 'gpt-image-1', prompt: s.prompt() } })),
  one('transcripts', 1, 'rest', (s) => ({ path: '/openai/v1/audio/transcriptions', ...form({ model: s.chance.of(['whisper-1', 'gpt-4o-transcribe']), file: { name: 'a.wav', text: 'RIFF'.repeat(500) } }) })),
  one('moderation, which is free', 1, 'rest', (s) => ({ path: '/openai/v1/moderations', body: { model: 'omni-moderation-latest', input: s.prompt() } })),
  {
    name: 'batch of OpenAI', weight: 0.5,
    run: async (s) => {
      const call = await s.begin('batch of OpenAI', 'rest')
      const lines = Array.from({ length: s.chance.whole(1, 8) }, (_, n) => JSON.stringify({ custom_id: `l${n}`, method: 'POST', url: '/v1/chat/completions', body: { model: s.chance.of(['gpt-4o', 'gpt-4o-mini']), max_tokens: 800, messages: [{ role: 'user', content: s.prompt() }] } }))
      const file = JSON.parse(right(await s.request(call, { path: '/openai/v1/files', ...form({ purpose: 'batch', file: { name: 'b.jsonl', text: lines.join('\n') } }) })).body)
      const batch = JSON.parse(right(await s.request(call, { path: '/openai/v1/batches', body: { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' } })).body)
      let state
      for (let polls = 0; polls < 3; polls++) state = JSON.parse(right(await s.request(call, { method: 'GET', path: `/openai/v1/batches/${batch.id}`, proxy: s.chance.happens(0.3) ? s.other() : s.proxy })).body)
      for (let times = 0; times < 2; times++) right(await s.request(call, { method: 'GET', path: `/openai/v1/files/${state.output_file_id}/content`, proxy: times ? s.other() : s.proxy }))
      call.done = true
    },
  },
  {
    name: 'batch of Anthropic', weight: 0.5,
    run: async (s) => {
      const call = await s.begin('batch of Anthropic', 'claude')
      const requests = Array.from({ length: s.chance.whole(1, 8) }, (_, n) => ({ custom_id: `l${n}`, params: claudeBody(s, s.chance.of(claudes), { max_tokens: 800 }) }))
      const batch = JSON.parse(right(await s.request(call, { path: `${CLAUDE}/batches`, headers: version, body: { requests } })).body)
      for (let polls = 0; polls < 3; polls++) right(await s.request(call, { method: 'GET', path: `${CLAUDE}/batches/${batch.id}`, headers: version, proxy: s.chance.happens(0.3) ? s.other() : s.proxy }))
      for (let times = 0; times < 2; times++) right(await s.request(call, { method: 'GET', path: `${CLAUDE}/batches/${batch.id}/results`, headers: version, proxy: times ? s.other() : s.proxy }))
      call.done = true
    },
  },
]

/// A WebSocket with a few responses, the last of which may break off.
const socket = (name, weight, outbound, { realtime, breaks }) => [false, true].map((deflate) => {
  const full = `${name}${deflate ? ', deflated' : ''}`
  return {
    name: full, weight,
    run: async (s) => {
      const responses = s.chance.whole(1, 4)
      let call = await s.begin(full, outbound)
      const [visits] = [call.visits]
      await s.socket(call, {
        path: realtime ? '/openai/v1/realtime?model=gpt-realtime' : ANSWERS, deflate,
        talk: async ({ say, hear, closed }) => {
          for (let n = 0; n < responses; n++) {
            if (n > 0) Object.assign((call = await s.begin(full, outbound)), { visits })
            const by = breaks && n === responses - 1 ? s.chance.of(['client', 'provider']) : undefined
            const metadata = { act: JSON.stringify({ book: call.book, wild: !breaks && s.chance.happens(0.5), cut: by }) }
            if (realtime) say({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content: [{ type: 'input_text', text: s.prompt() }] } })
            say(realtime ? { type: 'response.create', response: { metadata } } : { type: 'response.create', model: 'gpt-6.2-sol', input: s.prompt(), metadata })
            if (by) await hear((event) => event.type === 'sent')
            else await hear((event) => event.type === 'response.done' || event.type === 'response.completed')
            if (by === 'provider') await closed()
            call.done = true
          }
        },
      })
    },
  }
}).flat()

const SOCKETS = [
  ...socket('responses over a WebSocket', 1, 'answers', {}),
  ...socket('responses over a WebSocket, cut', 0.5, 'answers', { breaks: true }),
  ...socket('realtime', 1, 'rest', { realtime: true }),
  ...socket('realtime, cut', 0.5, 'rest', { realtime: true, breaks: true }),
]

export const KINDS = [...CHATS, ...RESPONSES, ...MESSAGES, ...GEMINI, ...BEDROCK, ...REST, ...SOCKETS]

// The provider's batches: OpenAI's, of a file of requests, and Anthropic's. All results are billed at the batch price.

import { Chance } from './chance.mjs'
import { chat, messages } from './wires.mjs'

export class Batches {
  constructor(desk) {
    this.desk = desk
    this.files = new Map()
    this.batches = new Map()
  }

  /// The answer to a request about a file or a batch; nothing for another request.
  answer(req, call, path, body) {
    const is = (pattern) => pattern.exec(path)?.[1]
    if (req.method === 'POST' && path.endsWith('/v1/files')) return this.upload(body, call)
    if (req.method === 'POST' && path.endsWith('/messages/batches')) return this.claude(JSON.parse(body), call)
    if (req.method === 'POST' && path.endsWith('/v1/batches')) return this.create(JSON.parse(body), call)
    const [file, results, batch] = [is(/\/files\/([^/]+)\/content$/), is(/\/messages\/batches\/([^/]+)\/results$/), is(/\/batches\/([^/]+)$/)]
    if (file) return this.files.get(file)
    if (results) return this.batches.get(results).lines
    return batch && this.state(this.batches.get(batch), batch)
  }

  upload(form, { book }) {
    const [, boundary] = /^--([^\r]+)\r\n/.exec(form.toString('latin1'))
    const part = form.toString('utf8').split(`--${boundary}`).find((one) => one.includes('name="file"'))
    const id = `file-${book}`
    this.files.set(id, part.slice(part.indexOf('\r\n\r\n') + 4).trimEnd())
    return { id, object: 'file', bytes: form.length, created_at: 1, filename: 'b.jsonl', purpose: 'batch', status: 'processed' }
  }

  create({ input_file_id: input, endpoint }, { provider, book }) {
    const { desk } = this
    const lines = this.files.get(input).split('\n').map((line, at) => {
      const { custom_id: name, body } = JSON.parse(line)
      if (new Chance(desk.seed, `fails ${book} ${at}`).happens(0.1)) return { name, failed: true }
      const prompt = desk.prompt(body.model, body.messages.map((message) => message.content))
      const reply = { ...desk.answer('chat', body.model, prompt, book, { line: at }), tier: 'batch' }
      desk.bill(book, provider, body.model, 'reported', desk.call(reply))
      return { name, body: chat.whole(reply) }
    })
    const result = ({ name, failed, body }) => JSON.stringify(failed
      ? { id: name, custom_id: name, response: { status_code: 500, request_id: 'q', body: { error: { message: 'x' } } }, error: null }
      : { id: name, custom_id: name, response: { status_code: 200, request_id: 'q', body }, error: null })
    const id = `batch_${book}`
    this.files.set(`out-${id}`, lines.map(result).join('\n') + '\n')
    const failed = lines.filter((line) => line.failed).length
    this.batches.set(id, { openai: true, input, endpoint, polls: 0, counts: { total: lines.length, completed: lines.length - failed, failed } })
    return this.state(this.batches.get(id), id)
  }

  claude({ requests }, { provider, book }) {
    const { desk } = this
    const lines = requests.map(({ custom_id: name, params }, at) => {
      if (new Chance(desk.seed, `expires ${book} ${at}`).happens(0.1)) return JSON.stringify({ custom_id: name, result: { type: 'expired' } })
      const prompt = desk.prompt(params.model, params.messages.map((message) => message.content))
      const reply = { ...desk.answer('messages', params.model, prompt, book, { line: at }), tier: 'batch', said: { service_tier: 'batch' } }
      desk.bill(book, provider, params.model, 'reported', desk.call(reply))
      return JSON.stringify({ custom_id: name, result: { type: 'succeeded', message: messages.whole(reply) } })
    })
    const id = `msgbatch_${book}`
    this.batches.set(id, { lines: lines.join('\n') + '\n', polls: 0, expired: lines.filter((line) => line.includes('"expired"')).length, all: lines.length })
    return this.state(this.batches.get(id), id)
  }

  state(batch, id) {
    const ended = batch.polls++ > 1
    if (batch.openai) {
      const done = ended ? { output_file_id: `out-${id}`, request_counts: batch.counts } : {}
      return { id, object: 'batch', endpoint: batch.endpoint, completion_window: '24h', created_at: 1, input_file_id: batch.input, status: ended ? 'completed' : 'in_progress', ...done }
    }
    const counts = { processing: ended ? 0 : batch.all, succeeded: ended ? batch.all - batch.expired : 0, errored: 0, canceled: 0, expired: ended ? batch.expired : 0 }
    return {
      id, type: 'message_batch', processing_status: ended ? 'ended' : 'in_progress', request_counts: counts, created_at: '2026-11-30T00:00:00Z', expires_at: '2026-12-01T00:00:00Z',
      ended_at: null, archived_at: null, cancel_initiated_at: null, results_url: ended ? 'https://example.com/results' : null,
    }
  }
}

// The app's side: sessions of its users, the model calls that they cause, and a list of who has caused what.

import http from 'node:http'
import WebSocket from 'ws'

/// Calls by number: who caused them, by which routes, through which proxies and when.
export class Calls {
  constructor() {
    this.all = []
  }

  add(session, kind, outbound) {
    const book = this.all.length
    this.all.push({ book, kind, outbound, ...session.identity(), visits: [], done: false })
    return this.all[book]
  }
}

const agents = new Map()
const agent = (proxy) => {
  const key = `${proxy.number} ${proxy.generation}`
  if (!agents.has(key)) agents.set(key, new http.Agent({ keepAlive: true, maxSockets: 64 }))
  return agents.get(key)
}

/// A proxy was killed: the session can make no more calls.
export class Gone extends Error {}

/// One request of a user, and the model calls that it causes through one proxy.
export class Session {
  /// `means` tells how the app says who asks: `baggage`, `request id`, `caller`, `nothing`.
  constructor({ calls, proxy, caller, inbound, means, proxies, chance }) {
    Object.assign(this, { calls, proxy, caller, inbound, means, proxies, chance, generation: proxy.generation, headers: {} })
  }

  /// What the ledger shall say of its calls.
  identity() {
    if (this.means === 'nothing') return { caller: 'unattributed', inbound: '' }
    return { caller: this.caller, inbound: this.means === 'caller' ? '' : this.inbound }
  }

  /// Takes the fields of the inbound request that carry its identity.
  took(fields) {
    if (this.means === 'baggage') this.headers = { baggage: fields.baggage }
    if (this.means === 'request id') this.headers = { 'x-request-id': fields['x-request-id'] }
    if (this.means === 'caller') this.headers = { 'outrigger-caller': this.caller }
  }

  /// The same user through another proxy, which is told who asks by name.
  elsewhere() {
    const there = new Session({ ...this, proxy: this.other(), means: this.means === 'nothing' ? 'nothing' : 'caller' })
    there.took({})
    return there
  }

  /// Another proxy that is up, if there is one: a replica that is asked about work of this one.
  other() {
    const others = this.proxies.filter((proxy) => proxy !== this.proxy && proxy.up)
    return others.length ? this.chance.of(others) : this.proxy
  }

  async begin(kind, outbound) {
    if (!this.proxy.up || this.proxy.generation !== this.generation) throw new Gone()
    return this.calls.add(this, kind, outbound)
  }

  /// One HTTP request of a call. `leaves`: `sent` (when everything that the provider has sent is here), or after so many milliseconds.
  async request(call, { path, body, act = {}, method = 'POST', headers = {}, proxy = this.proxy, leaves }) {
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
    const visit = { proxy, began: Date.now(), ended: undefined }
    call.visits.push(visit)
    const fields = { 'content-type': 'application/json', authorization: 'Bearer k', 'x-api-key': 'k', 'accept-encoding': act.gzip ? 'gzip' : 'identity', 'x-book': call.book, 'x-act': JSON.stringify(act), ...this.headers, ...headers }
    const answer = await new Promise((done, failed) => {
      const req = http.request({ agent: agent(proxy), host: '127.0.0.1', port: proxy.port.outbound, method, path, headers: fields }, (res) => {
        const chunks = []
        let [size, events] = [0, 0]
        const result = (broke) => done({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks), broke })
        const sent = { events: Number(res.headers['x-sent-events']), bytes: Number(res.headers['x-sent-bytes']) }
        const isEvents = (res.headers['content-type'] ?? '').startsWith('text/event-stream')
        const here = () => (isEvents ? events >= sent.events : size >= sent.bytes)
        const leave = () => {
          result(true)
          req.destroy()
        }
        res.on('data', (chunk) => {
          chunks.push(chunk)
          size += chunk.length
          if (leaves !== 'sent') return
          if (isEvents) events = Buffer.concat(chunks).toString('latin1').split('\n\n').length - 1
          if (here()) leave()
        })
        res.on('end', () => result(!res.complete))
        res.on('error', () => result(true))
        res.on('aborted', () => result(true))
      })
      req.on('error', (error) => (leaves ? done({ status: 0, broke: true, body: Buffer.alloc(0), headers: {} }) : failed(error)))
      if (typeof leaves === 'number') setTimeout(() => req.destroy(), leaves)
      req.setTimeout(60_000, () => req.destroy(new Error('no answer in a minute')))
      req.end(bytes)
    })
    visit.ended = Date.now()
    return answer
  }

  /// A session over a WebSocket. `talk` gets `say(event)` and `hear(test)`.
  async socket(call, { path, deflate, talk }) {
    const visit = { proxy: this.proxy, began: Date.now(), ended: undefined }
    call.visits.push(visit)
    const url = `ws://127.0.0.1:${this.proxy.port.outbound}${path}`
    const socket = new WebSocket(url, { perMessageDeflate: deflate ? { threshold: 0 } : false, headers: { authorization: 'Bearer k', ...this.headers } })
    const heard = []
    let [wake, over] = [() => {}, false]
    socket.on('message', (bytes) => {
      heard.push(JSON.parse(bytes))
      wake()
    })
    socket.on('close', () => wake((over = true)))
    socket.on('error', () => wake((over = true)))
    await new Promise((done, failed) => {
      socket.once('open', done)
      socket.once('error', failed)
    })
    const hear = async (test) => {
      for (;;) {
        while (heard.length) {
          const event = heard.shift()
          if (test(event)) return event
        }
        if (over) throw new Error('the WebSocket was closed')
        await new Promise((done) => (wake = done))
      }
    }
    try {
      await talk({ say: (event) => socket.send(JSON.stringify(event)), hear, socket, closed: () => new Promise((done) => (over ? done() : socket.once('close', done))) })
    } finally {
      socket.terminate()
      visit.ended = Date.now()
    }
  }
}

// The provider's WebSockets: Realtime, and Responses over a WebSocket. Each response has a number and what shall go wrong with it in
// its `metadata`. Whether messages are deflated is the client's to offer.

import { WebSocketServer } from 'ws'
import { Chance } from './chance.mjs'
import { realtimeEvents, responses } from './wires.mjs'

/// Serves WebSockets beside `server`.
export function sockets(server, desk) {
  const accepting = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } })
  server.on('upgrade', (req, socket, head) => accepting.handleUpgrade(req, socket, head, (client) => session(client, req.url, desk)))
}

function session(client, url, desk) {
  const provider = url.split('/')[1]
  const realtime = url.includes('/realtime')
  const model = realtime ? new URL(url, 'http://x').searchParams.get('model') : undefined
  // Words of the conversation so far: a Realtime response reads all of them.
  const said = []
  const say = (event) => client.send(JSON.stringify(event))
  if (realtime) say({ type: 'session.created', event_id: 'e', session: { type: 'realtime', object: 'realtime.session', id: 's', model } })
  client.on('error', () => {})
  client.on('message', (bytes) => {
    const message = JSON.parse(bytes)
    if (message.type === 'conversation.item.create') said.push(message.item.content[0].text)
    if (message.type === 'response.create') respond(client, say, desk, { provider, realtime, asked: model ?? message.model, said, message })
  })
}

function respond(client, say, desk, { provider, realtime, asked, said, message }) {
  const { book, cut, wild } = JSON.parse((realtime ? message.response : message).metadata.act)
  const chance = new Chance(desk.seed, `socket ${book}`)
  const prompt = desk.prompt(asked, realtime ? said : [message.input])
  const answer = desk.answer(realtime ? 'realtime' : 'responses', asked, prompt, book, { wild })
  const { used } = answer
  if (realtime && wild) [used.read, used.audioIn, used.audioRead, used.audioOut] = [64 * chance.whole(0, 40), chance.whole(100, 9000), 64 * chance.whole(0, 40), chance.whole(100, 9000)]
  said.push(answer.text)
  const events = realtime ? realtimeEvents(answer) : responses.events(answer)
  if (!cut) {
    desk.bill(book, provider, asked, 'reported', desk.call(answer))
    return events.forEach(({ event }) => say(event))
  }
  const speaking = events.map((event, at) => (event.tokens > 0 ? at : -1)).filter((at) => at >= 0)
  const last = chance.whole(speaking[0], speaking.at(-1))
  const spoken = events.slice(0, last + 1).reduce((sum, event) => sum + event.tokens, 0)
  events.slice(0, last + 1).forEach(({ event }) => say(event))
  desk.bill(book, provider, asked, 'cut', { model: asked, used: { input: prompt, output: desk.scaled(asked, spoken) } })
  // The client is told how much was sent by a message of no API: it leaves when it has come, or is left.
  say({ type: 'sent', events: last + 1 })
  if (cut === 'provider') client.once('pong', () => client.terminate()), client.ping()
}

// The books of four proxies against the provider's: node main.mjs BINARY ROOT [--calls N] [--seed N] [--kills N] [--proxies N]
//     [--interval TIME] [--at-once N] [--only TEXT] [--by-kind] [--keep]
//
// Prints what was compared and every difference; leaves with 1 if there is one.

import http from 'node:http'
import { parseArgs } from 'node:util'
import { Chance } from './chance.mjs'
import { Calls, Gone, Session } from './client.mjs'
import { compare } from './compare.mjs'
import { KINDS } from './kinds.mjs'
import { pool } from './texts.mjs'
import { World, until } from './world.mjs'

const { values: options, positionals: [binary, root] } = parseArgs({
  allowPositionals: true,
  options: {
    calls: { type: 'string', default: '2000' }, seed: { type: 'string' }, kills: { type: 'string', default: '0' }, proxies: { type: 'string', default: '4' },
    interval: { type: 'string', default: '1s' }, 'at-once': { type: 'string', default: '24' }, only: { type: 'string' }, 'by-kind': { type: 'boolean' }, keep: { type: 'boolean' },
  },
})
const seed = Number(options.seed ?? Math.floor(Math.random() * 1e9))
const [wanted, kills, atOnce] = [Number(options.calls), Number(options.kills), Number(options['at-once'])]
const began = Date.now()
const seconds = () => ((Date.now() - began) / 1000).toFixed(0)
console.log(`books: seed ${seed}, ${wanted} calls, ${kills} kills`)

const texts = pool(root, seed)
const kinds = KINDS.filter((kind) => kind.name.includes(options.only ?? ''))
const calls = new Calls()
const troubles = []
const MEANS = [{ means: 'baggage', weight: 70 }, { means: 'request id', weight: 20 }, { means: 'caller', weight: 5 }, { means: 'nothing', weight: 5 }]

// The app behind the inbound doors: a request of a user goes on until the model calls that it causes are made.
const working = new Map()
const app = http.createServer((req, res) => {
  const id = Number(new URL(req.url, 'http://app').searchParams.get('session'))
  working.get(id)(req.headers).finally(() => res.end('done'))
})
app.keepAliveTimeout = 60_000
await new Promise((done) => app.listen(0, '127.0.0.1', done))

const world = new World({ binary, root, seed, app: app.address().port, interval: options.interval })
let [number, failed] = [0, false]
// Who ends this run ends all that it has started.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit((world.kill(), 1)))

/// One user's request: a few calls of one kind or another, all through one proxy.
async function session(chance) {
  const up = world.proxies.filter((proxy) => proxy.up)
  const [kind, proxy, id] = [chance.weighed(kinds), chance.of(up), number++]
  const { means } = options['by-kind'] ? { means: chance.of(['caller', 'baggage']) } : chance.weighed(MEANS)
  const caller = options['by-kind'] ? kind.name : `u-${chance.whole(0, 39)}`
  const inbound = chance.of(['page', 'agent', 'search'])
  const s = new Session({ calls, proxy, caller, inbound, means, proxies: world.proxies, chance })
  let asked = 0
  s.prompt = () => `${chance.of(texts).text} Case ${id} of ${asked++}.`
  const work = async () => {
    for (let times = chance.whole(1, 6); times > 0; times--) {
      const generation = proxy.generation
      try {
        await (times > 1 || options['by-kind'] ? kind : chance.weighed(kinds)).run(s)
      } catch (error) {
        if (error instanceof Gone || !proxy.up || proxy.generation !== generation) return
        if (kills && (proxy.kills.length || world.proxies.some((each) => each.kills.length))) return void world.broken++
        throw new Error(`${kind.name}: ${error.message}`)
      }
      // By kind, the caller is the kind.
      if (options['by-kind']) return
    }
  }
  if (means === 'caller' || means === 'nothing') {
    s.took({})
    return await work()
  }
  await new Promise((done) => {
    working.set(id, async (fields) => {
      s.took(fields)
      try {
        await work()
      } catch (error) {
        troubles.push(error.message)
      }
    })
    const req = http.request({ host: '127.0.0.1', port: proxy.port.inbound, path: `/${inbound}?session=${id}`, headers: { 'x-user-id': caller } }, (res) => {
      if (res.statusCode !== 200) troubles.push(`the inbound door said ${res.statusCode}`)
      res.on('close', done).resume()
    })
    req.on('error', () => done(!proxy.up || kills || troubles.push('the inbound door broke')))
    req.end()
  })
  working.delete(id)
}

async function drive(lane) {
  const chance = new Chance(seed, `lane ${lane}`)
  while (calls.all.length < wanted && !failed) {
    if (!world.proxies.some((proxy) => proxy.up)) await until('a proxy is up', () => world.proxies.some((proxy) => proxy.up))
    await session(chance).catch((error) => troubles.push(error.message))
    failed = troubles.length > 20
  }
}

/// Kills one proxy after the other at moments that the number of calls decides, and starts each again.
async function killer() {
  const chance = new Chance(seed, 'kills')
  const moments = Array.from({ length: kills }, () => chance.whole(wanted * 0.02, wanted * 0.98)).sort((a, b) => a - b)
  for (const moment of moments) {
    await until('the next kill', () => calls.all.length >= moment || failed, 3600)
    if (failed) return
    const proxy = chance.of(world.proxies)
    await new Promise((done) => setTimeout(done, chance.whole(0, 200)))
    await proxy.kill()
    await proxy.start()
  }
}

async function progress() {
  for (let told = 0; calls.all.length < wanted && !failed; ) {
    await until('progress', () => calls.all.length >= told + wanted / 10 || failed, 3600)
    told = calls.all.length
    console.log(`  ${told} calls, ${seconds()} s`)
  }
}

let wrong = []
try {
  world.broken = 0
  await world.start(Number(options.proxies))
  await Promise.all([...Array.from({ length: atOnce }, (_, lane) => drive(lane)), killer(), wanted > 5000 ? progress() : undefined])
  wrong = await compare(world, calls, troubles, { byKind: options['by-kind'], interval: options.interval, kills })
  const codes = await world.end(options.keep)
  wrong.push(...codes.filter((code) => code !== 0).map((code) => `a proxy left with ${code}`))
} catch (error) {
  console.error(error)
  wrong = [`${error}`]
  await world.end(true)
}
for (const line of wrong) console.log(`FAIL ${line}`)
if (options.keep || wrong.length) console.log(`  files: ${world.home}`)
console.log(`books: ${wrong.length ? `${wrong.length} differences` : 'ok'}, seed ${seed}, ${seconds()} s`)
console.log(`${wrong.length ? 0 : 1} passed, ${wrong.length} failed`)
process.exit(wrong.length ? 1 : 0)

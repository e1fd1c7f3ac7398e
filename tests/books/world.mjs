// The processes of a run: one redis-server, the provider, four proxies; all on free ports, in a directory of their own.

import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const run = promisify(execFile)
const pause = (millis) => new Promise((done) => setTimeout(done, millis))
const given = new Set()

/// A port that nobody has.
async function freePort() {
  for (;;) {
    const server = net.createServer().listen(0, '127.0.0.1')
    await new Promise((done) => server.once('listening', done))
    const { port } = server.address()
    await new Promise((done) => server.close(done))
    if (!given.has(port)) return given.add(port) && port
  }
}

/// Waits until a question is answered with yes.
export async function until(what, test, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; ; await pause(25)) {
    if (await test()) return
    if (Date.now() > end) throw new Error(`${what} did not happen in ${seconds} s`)
  }
}

const listens = (port) => new Promise((done) => {
  const socket = net.connect(port, '127.0.0.1', () => done(true) || socket.destroy())
  socket.on('error', () => done(false))
})

const CONFIG = readFileSync(path.join(HERE, 'proxy.yaml'), 'utf8')

/// One proxy: `port.inbound`, `port.outbound`; it may be killed and started again, at the same ports.
class Proxy {
  constructor(world, number) {
    Object.assign(this, { world, number, generation: 0, kills: [], up: false })
    this.home = path.join(world.home, `proxy-${number}`)
    mkdirSync(this.home)
  }

  async prepare() {
    this.port = { inbound: await freePort(), outbound: await freePort(), admin: await freePort(), probes: await freePort() }
    const { world } = this
    const values = { ...this.port, app: world.app, provider: world.provider, redis: world.redis, home: this.home, interval: world.interval }
    writeFileSync(path.join(this.home, 'proxy.yaml'), CONFIG.replace(/<(\w+)>/g, (_, name) => values[name]))
  }

  async start() {
    const log = openSync(path.join(this.home, 'log'), 'a')
    this.process = spawn(this.world.binary, ['run', '--config', path.join(this.home, 'proxy.yaml')], { stdio: ['ignore', log, log], env: { ...process.env, NO_COLOR: '1' } })
    const { process: child } = this
    const ready = async () => {
      if (child.exitCode !== null) throw new Error(`proxy ${this.number} left: ${readFileSync(path.join(this.home, 'log'), 'utf8').slice(-2000)}`)
      return await fetch(`http://127.0.0.1:${this.port.probes}/ready`).then((answer) => answer.ok, () => false)
    }
    await until(`proxy ${this.number} is ready`, ready)
    this.generation += 1
    this.up = true
  }

  /// SIGKILL, and the time of it.
  async kill() {
    this.up = false
    const gone = new Promise((done) => this.process.once('exit', done))
    this.kills.push(Date.now())
    this.process.kill('SIGKILL')
    await gone
  }

  async stop() {
    this.up = false
    const gone = new Promise((done) => this.process.once('exit', done))
    this.process.kill('SIGTERM')
    return await gone
  }

  /// The rows of the ledger, as `outrigger usage` gives them.
  async usage(by) {
    const { stdout } = await run(this.world.binary, ['usage', '--socket', path.join(this.home, 'admin.sock'), '--by', by, '--since', '1d', '--format', 'json'], { maxBuffer: 1 << 28 })
    return JSON.parse(stdout)
  }

  async page(name) {
    return await fetch(`http://127.0.0.1:${this.port.admin}${name}`).then((answer) => answer.json())
  }

  said() {
    return readFileSync(path.join(this.home, 'log'), 'utf8')
  }
}

/// Everything of a run. `app` is the port of the app behind the inbound doors.
export class World {
  constructor({ binary, root, seed, app, interval }) {
    Object.assign(this, { binary, root, seed, app, interval, home: mkdtempSync(path.join(os.tmpdir(), 'outrigger-books-')), children: [] })
  }

  async start(count) {
    this.redis = await freePort()
    this.spawn('redis', 'redis-server', ['--port', this.redis, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'])
    await until('redis-server listens', () => listens(this.redis))
    const provider = this.spawn('provider', process.execPath, [path.join(HERE, 'provider.mjs'), this.root, this.seed])
    await until('the provider listens', () => (this.provider = Number(readFileSync(provider.log, 'utf8').split('\n')[0]) || undefined))
    this.proxies = Array.from({ length: count }, (_, number) => new Proxy(this, number))
    for (const proxy of this.proxies) {
      await proxy.prepare()
      await proxy.start()
    }
  }

  spawn(name, command, args) {
    const log = path.join(this.home, `${name}.log`)
    const file = openSync(log, 'a')
    const child = spawn(command, args.map(String), { stdio: ['ignore', file, file], cwd: this.home })
    child.log = log
    this.children.push(child)
    return child
  }

  /// The provider's bills.
  async books() {
    const text = await fetch(`http://127.0.0.1:${this.provider}/books`).then((answer) => answer.text())
    return text.split('\n').filter(Boolean).map((line) => JSON.parse(line))
  }

  /// Ends everything that was started; gives the exit codes of the proxies.
  async end(keep) {
    const codes = []
    for (const proxy of this.proxies ?? []) codes.push(await proxy.stop())
    for (const child of this.children) child.kill('SIGKILL')
    if (!keep) rmSync(this.home, { recursive: true, force: true })
    return codes
  }

  /// Kills everything that was started.
  kill() {
    for (const child of [...(this.proxies ?? []).map((proxy) => proxy.process), ...this.children]) child?.kill('SIGKILL')
  }

  /// What the provider said against itself.
  complaints() {
    return readFileSync(path.join(this.home, 'provider.log'), 'utf8').split('\n').slice(1).join('\n').trim()
  }
}

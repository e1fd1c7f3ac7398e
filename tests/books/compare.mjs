// The comparison: the ledgers of all proxies, added up, against the provider's bills, added up the same way.

const nano = (dollars) => {
  const [whole, rest = ''] = dollars.split('.')
  return BigInt(whole) * 1_000_000_000n + BigInt(rest.padEnd(9, '0'))
}
const dollars = (amount) => (Number(amount) / 1e9).toFixed(9)
const TOLD = 'reported'

/// Adds amounts under a name.
class Sums extends Map {
  add(name, amount) {
    this.set(name, (this.get(name) ?? 0n) + amount)
  }
}

/// How far an estimate may be off, in thousandths.
const OFF = { estimated: 100n, counted: 20n }
/// Bills of a sum that is compared with an estimate: of fewer, one call decides.
const ENOUGH = 60

/// Waits until no proxy has anything to write, and nothing more comes.
async function settled(world) {
  for (let before = ''; ; ) {
    const rows = await Promise.all(world.proxies.map((proxy) => proxy.usage('known')))
    const said = JSON.stringify(rows.map((row) => row.total))
    if (said === before) return
    before = said
    await new Promise((done) => setTimeout(done, 1500))
  }
}

/// The differences, in words.
export async function compare(world, calls, troubles, { byKind, interval, kills }) {
  await settled(world)
  const [bills, ledgers] = [await world.books(), await Promise.all(world.proxies.map((proxy) => proxy.usage('caller,inbound,outbound,model,known')))]
  const wrong = [...troubles.slice(0, 20)]
  if (world.complaints()) wrong.push(`the provider: ${world.complaints().slice(0, 2000)}`)
  const panics = world.proxies.filter((proxy) => proxy.said().includes('panicked'))
  wrong.push(...panics.map((proxy) => `proxy ${proxy.number} panicked: ${proxy.said().slice(-2000)}`))

  const ours = { reported: new Sums(), estimated: new Sums(), counted: new Sums(), unknown: new Sums() }
  const rows = ledgers.flatMap((ledger) => ledger.rows)
  for (const row of rows) ours[row.known].add([row.caller, row.inbound, row.outbound, row.model].join(' | '), nano(row.cost_usd))

  const cuts = []
  const theirs = { certain: new Sums(), doubtful: new Sums(), cut: new Sums(), cutDoubtful: new Sums() }
  const spare = 1000 * parseFloat(interval) * (interval.endsWith('ms') ? 0.001 : 1) + WRITE
  let doubtful = 0
  for (const bill of bills) {
    const call = calls.all[bill.book]
    if (!call) {
      wrong.push(`a bill of no call: ${JSON.stringify(bill)}`)
      continue
    }
    const sure = isSure(call, spare)
    doubtful += sure ? 0 : 1
    const part = bill.how === TOLD ? (sure ? 'certain' : 'doubtful') : sure ? 'cut' : 'cutDoubtful'
    const name = [call.caller, call.inbound, call.outbound, bill.model].join(' | ')
    theirs[part].add(name, BigInt(bill.nano))
    if (bill.how !== TOLD) cuts.push(name)
  }
  report(bills, calls, ours, theirs, doubtful, kills, world)
  wrong.push(...exact(ours.reported, theirs.certain, theirs.doubtful))
  wrong.push(...near(ours, theirs, cuts, byKind))
  if ([...ours.unknown.values()].some((sum) => sum > 0n)) wrong.push('the ledger has dollars of which it does not know how they are known')
  return wrong
}

/// Milliseconds that a write of the ledger may take on a busy machine.
const WRITE = 1000

/// Whether a kill cannot have cost the call: its client has seen its end, and no proxy that it asked was killed then or soon after.
function isSure(call, spare) {
  const calm = ({ proxy, began, ended }) => ended !== undefined && !proxy.kills.some((at) => at >= began && at <= ended + spare)
  return call.visits.every(({ proxy }) => proxy.kills.length === 0) || (call.done && call.visits.every(calm))
}

const total = (sums) => [...sums.values()].reduce((all, sum) => all + sum, 0n)

function report(bills, calls, ours, theirs, doubtful, kills, world) {
  const kinds = new Set(calls.all.map((call) => call.kind)).size
  console.log(`  ${calls.all.length} calls of ${kinds} kinds, ${bills.length} bills; ${theirs.certain.size + theirs.cut.size} sums of caller, routes and model`)
  if (kills) console.log(`  ${world.proxies.reduce((sum, proxy) => sum + proxy.kills.length, 0)} kills; ${doubtful} bills of the last moments before one may be missing`)
  console.log(`  reported: the provider's ${dollars(total(theirs.certain))} USD${kills ? ` and at most ${dollars(total(theirs.doubtful))}` : ''}, ours ${dollars(total(ours.reported))}`)
  const [cut, guess, count] = [total(theirs.cut), total(ours.estimated), total(ours.counted)]
  console.log(`  cut or unsaid: the provider's ${dollars(cut)} USD${kills ? ` and at most ${dollars(total(theirs.cutDoubtful))}` : ''}, ours ${dollars(guess)} estimated, ${dollars(count)} counted`)
}

/// What is reported is equal to the nano-dollar in every sum; what a kill may have cost is between nothing and all.
function exact(ours, certain, doubtful) {
  const names = new Set([...ours.keys(), ...certain.keys()])
  return [...names].flatMap((name) => {
    const [found, least] = [ours.get(name) ?? 0n, certain.get(name) ?? 0n]
    const most = least + (doubtful.get(name) ?? 0n)
    return found < least || found > most ? [`${name}: ${dollars(found)} USD in the ledgers, ${dollars(least)}${most > least ? ` to ${dollars(most)}` : ''} in the provider's books`] : []
  })
}

/// What was cut is near in all, and in the sums by caller, by route and by model that have enough bills.
function near(ours, theirs, cuts, byKind) {
  let compared = 0
  const wrong = []
  const by = (sums, at) => {
    const out = new Sums()
    for (const [name, sum] of sums) out.add(at < 0 ? 'all' : name.split(' | ')[at], sum)
    return out
  }
  const parts = byKind ? [[0, 'kind']] : [[-1, 'nothing'], [0, 'caller'], [1, 'inbound route'], [2, 'outbound route'], [3, 'model']]
  for (const [at, what] of parts) {
    const [guess, count, least, more] = [ours.estimated, ours.counted, theirs.cut, theirs.cutDoubtful].map((sums) => by(sums, at))
    for (const name of new Set([...guess.keys(), ...count.keys(), ...least.keys()])) {
      if (at >= 0 && cuts.filter((cut) => cut.split(' | ')[at] === name).length < ENOUGH) continue
      compared += 1
      const found = (guess.get(name) ?? 0n) + (count.get(name) ?? 0n)
      const [lower, upper] = [least.get(name) ?? 0n, (least.get(name) ?? 0n) + (more.get(name) ?? 0n)]
      // The part that was counted has a narrower bound.
      const room = (amount) => ((guess.get(name) ?? 0n) * OFF.estimated + (count.get(name) ?? 0n) * OFF.counted) * amount / (found || 1n) / 1000n
      if (found < lower - room(lower) || found > upper + room(upper)) wrong.push(`cut, by ${what}: ${name}: ${dollars(found)} USD in the ledgers, ${dollars(lower)}${upper > lower ? ` to ${dollars(upper)}` : ''} in the provider's books`)
    }
  }
  console.log(`  cut or unsaid: ${compared} sums are compared: all, and those of ${ENOUGH} bills or more`)
  return wrong
}

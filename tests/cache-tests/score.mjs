// Scores one run of the suite: node score.mjs CHECKOUT RESULTS.json README.md
//
// A test passes if it and everything that it depends on passed. `required` and `optimal` tests count; a `check` only says
// how a cache behaves, and tests for browsers alone are left out. Prints the score of each group, the total, and every
// test that failed; ends with 1 unless those are exactly the ones that the README's table names for this edition (under
// another policy than {} some of them may pass).

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [checkout, resultsFile, readme] = process.argv.slice(2)
const load = async name => (await import(pathToFileURL(join(checkout, 'tests', name)).href)).default
const groups = [...await load('index.mjs')]
const surrogate = await load('surrogate-control.mjs').catch(() => null)
if (surrogate !== null && !groups.some(group => group.id === surrogate.id)) groups.push(surrogate)

const results = JSON.parse(readFileSync(resultsFile, 'utf8'))
const tests = new Map(groups.flatMap(group => group.tests.map(test => [test.id, test])))

// Passed, failed, or not to be judged, and why.
const judged = new Map()
function judge (id) {
  if (judged.has(id)) return judged.get(id)
  const result = results[id]
  const broken = (tests.get(id)?.depends_on ?? []).find(other => judge(other).word !== 'passed')
  let verdict
  if (result === undefined) verdict = { word: 'untested', why: 'it was not run' }
  else if (broken !== undefined) verdict = { word: 'dependency', why: `it depends on ${broken}` }
  else if (result === true) verdict = { word: 'passed' }
  else if (result[0] === 'Setup') verdict = { word: 'setup', why: result[1] }
  else verdict = { word: 'failed', why: `${result[0]}: ${result[1]}` }
  judged.set(id, verdict)
  return verdict
}

const kindOf = test => test.kind ?? 'required'
const counted = test => test.browser_only !== true
const total = {}
const misses = []
const row = (name, cells) => console.log(name.padEnd(28) + cells.map(cell => cell.padStart(14)).join(''))
row('group', ['required', 'optional', 'checks: yes'])
for (const group of groups) {
  const score = {}
  for (const test of group.tests.filter(counted)) {
    const kind = kindOf(test)
    const verdict = judge(test.id)
    for (const into of [score, total]) {
      into[kind] ??= { passed: 0, of: 0 }
      into[kind].of += 1
      into[kind].passed += verdict.word === 'passed' ? 1 : 0
    }
    if (kind !== 'check' && verdict.word !== 'passed') misses.push({ id: test.id, kind, name: test.name, ...verdict })
  }
  row(group.id, ['required', 'optimal', 'check'].map(kind => (score[kind] ? `${score[kind].passed}/${score[kind].of}` : '-')))
}
row('total', ['required', 'optimal', 'check'].map(kind => `${total[kind]?.passed ?? 0}/${total[kind]?.of ?? 0}`))

const edition = existsSync(join(checkout, 'test-engine')) ? 'git' : 'package'
const rows = [...readFileSync(readme, 'utf8').matchAll(/^\| `([^`]+)` \| (\w+) \|/gm)]
const named = new Set(rows.filter(([, , of]) => of === edition || of === 'both').map(([, id]) => id))
console.log()
for (const { id, kind, name, word, why } of misses) {
  console.log(`${named.has(id) ? 'known  ' : 'NEW    '} ${kind} ${id} (${word}): ${name}\n        ${why}`)
}
const fresh = misses.filter(miss => !named.has(miss.id))
// Under another policy some of the named ones may well pass.
const plain = (process.env.POLICY ?? '{}') === '{}'
const mended = plain ? [...named].filter(id => !tests.has(id) || judge(id).word === 'passed') : []
for (const id of mended) console.log(`PASSES  ${id}, though the README says that it does not (or there is no such test)`)
process.exit(fresh.length + mended.length > 0 ? 1 : 0)

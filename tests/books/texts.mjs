// The words of prompts and answers, and their tokens by a tokenizer that is not the proxy's: js-tiktoken with o200k_base.

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { Tiktoken } from 'js-tiktoken/lite'
import o200k from 'js-tiktoken/ranks/o200k_base'
import { Chance } from './chance.mjs'

const tokenizer = new Tiktoken(o200k)

/// Tokens of a text by OpenAI's tokenizer.
export const tokens = (text) => tokenizer.encode(text, [], []).length

// What is written about: prose, tables, YAML, code; and some other languages.
const SOURCES = ['README.md', 'deploy/guide/cache.md', 'deploy/guide/limits.md', 'deploy/guide/prices.md', 'deploy/guide/protocol.md', 'proxy.yaml', 'src/lib.rs', 'tests/tools.sh']
const OTHERS = [
  'Der Hafen war still, als Mara an jenem Morgen die Stufen hinunterging. Am Ende des Stegs lag ein einziges Boot, die Segel zusammengelegt wie die Flügel eines schlafenden Vogels. Sie hatte nicht gut geschlafen.',
  'Le port était calme quand Mara descendit les marches ce matin-là. Au bout de la jetée, un seul bateau attendait, les voiles repliées comme les ailes d’un oiseau endormi.',
  'Гавань была тиха, когда Мара спустилась по ступеням тем утром. В конце причала стояла одна лодка, и её паруса были сложены, как крылья спящей птицы.',
  'その朝、マラが階段を下りてきたとき、港は静かだった。桟橋の端には一艘の船が泊まっていて、帆は眠る鳥の翼のように畳まれていた。',
]

/// A pool of texts of 20 to about 400 tokens, always the same.
export function pool(root, seed, size = 240) {
  const chance = new Chance(seed, 'texts')
  const paragraphs = SOURCES.flatMap((name) => {
    const lines = readFileSync(path.join(root, name), 'utf8').split('\n').filter((line) => line.trim().length > 30 && line.length < 400)
    const out = []
    for (let at = 0; at + 4 < lines.length; at += 4) out.push(lines.slice(at, at + 4).join('\n'))
    return out
  })
  const texts = Array.from({ length: size }, () => {
    const parts = Array.from({ length: chance.whole(1, 5) }, () => (chance.happens(0.12) ? chance.of(OTHERS) : chance.of(paragraphs)))
    return parts.join('\n\n').trim()
  })
  return texts.map((text) => ({ text, tokens: tokens(text) }))
}

/// Cuts a text into pieces as a model streams it: a few tokens each.
export function pieces(text, chance) {
  const ids = tokenizer.encode(text, [], [])
  const out = []
  let open = []
  for (let at = 0; at < ids.length; ) {
    const count = Math.min(chance.whole(1, 12), ids.length - at)
    open.push(...ids.slice(at, at + count))
    at += count
    const piece = tokenizer.decode(open)
    // A character may be more than one token: it is sent whole.
    if (!piece.includes('\ufffd') || at >= ids.length) {
      out.push({ text: piece, tokens: open.length })
      open = []
    }
  }
  return out
}

// Chance from a seed: the same seed and name give the same numbers, whatever happens beside them.

/// A source of numbers (mulberry32 over an FNV-1a hash of its name).
export class Chance {
  constructor(seed, name = '') {
    let hash = 0x811c9dc5 ^ seed
    for (const unit of String(name)) hash = Math.imul(hash ^ unit.codePointAt(0), 0x01000193)
    this.state = hash >>> 0
  }

  /// From 0 to 1, 1 left out.
  next() {
    this.state = (this.state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }

  /// A whole number from `least` to `most`, both included.
  whole(least, most) {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  /// Whether a thing of this likelihood happens.
  happens(likelihood) {
    return this.next() < likelihood
  }

  /// One of a list.
  of(list) {
    return list[Math.floor(this.next() * list.length)]
  }

  /// One of a list of things with a `weight`.
  weighed(list) {
    let left = this.next() * list.reduce((sum, one) => sum + one.weight, 0)
    return list.find((one) => (left -= one.weight) < 0) ?? list.at(-1)
  }
}

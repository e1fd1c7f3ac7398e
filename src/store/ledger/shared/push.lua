-- Adds rows to the shared ledger, once.
-- KEYS: meta, ids by name, names by id, erased names, the process's last number; then the buckets.
-- ARGV: number, time to remember it (ms), first minute, count of names, count of buckets;
--   per name: kind, name, most names of the kind, last minute of its rows; per bucket: expiry (ms since 1970), most rows;
--   per row: ids as places of names or `=number`, with commas; places of its buckets, with commas; calls; sums as `word:number`, with commas.
-- Returns the number that was done before, and the calls that were added up without their caller.
local before = tonumber(redis.call('GET', KEYS[5]) or '0')
if before >= tonumber(ARGV[1]) then
  return {tostring(before), '0'}
end
local count_of_names, count_of_buckets = tonumber(ARGV[4]), tonumber(ARGV[5])
local at = 6

-- Ids 0 and 1 stand for `other` and for erased names.
local function id_of(kind, name, most, last)
  local field = kind .. ':' .. name
  local known = redis.call('HGET', KEYS[2], field)
  if known then
    return known
  end
  if name == 'other' then
    return '0'
  end
  if kind == '0' then
    if name == 'erased' then
      return '1'
    end
    local gone = redis.call('HGET', KEYS[4], redis.sha1hex(name))
    if gone and tonumber(last) <= tonumber(gone) then
      return '1'
    end
  end
  if tonumber(redis.call('HGET', KEYS[1], 'live:' .. kind) or '0') >= most then
    return '0'
  end
  redis.call('HINCRBY', KEYS[1], 'live:' .. kind, 1)
  local id = tostring(redis.call('HINCRBY', KEYS[1], 'next:' .. kind, 1) + 1)
  redis.call('HSET', KEYS[2], field, id)
  redis.call('HSET', KEYS[3], kind .. ':' .. id, name)
  return id
end

local ids = {}
for n = 1, count_of_names do
  ids[n] = id_of(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3])
  at = at + 4
end
local buckets = {}
for n = 1, count_of_buckets do
  buckets[n] = {key = KEYS[5 + n], expiry = ARGV[at], most = tonumber(ARGV[at + 1])}
  at = at + 2
end

-- Whole numbers up to 2^53 are exact here. A sum stays at that number.
local function added(old, new)
  local sums, words = {}, {}
  for word, value in string.gmatch(old .. ',' .. new, '([%w_]+):(%d+)') do
    if not sums[word] then
      words[#words + 1] = word
      sums[word] = 0
    end
    sums[word] = math.min(sums[word] + tonumber(value), 9007199254740991)
  end
  for n, word in ipairs(words) do
    words[n] = word .. ':' .. string.format('%.0f', sums[word])
  end
  return table.concat(words, ',')
end

local folded = 0
while at <= #ARGV do
  local row = {}
  for place in string.gmatch(ARGV[at], '[^,]+') do
    row[#row + 1] = string.sub(place, 1, 1) == '=' and string.sub(place, 2) or ids[tonumber(place)]
  end
  local field = table.concat(row, ',')
  row[1] = '0'
  local other = table.concat(row, ',')
  local is_folded = false
  for place in string.gmatch(ARGV[at + 1], '%d+') do
    local bucket = buckets[tonumber(place)]
    local into = field
    local old = redis.call('HGET', bucket.key, into)
    if not old and into ~= other and redis.call('HLEN', bucket.key) >= bucket.most then
      is_folded = true
      into = other
      old = redis.call('HGET', bucket.key, into)
    end
    redis.call('HSET', bucket.key, into, added(old or '', ARGV[at + 3]))
    redis.call('PEXPIREAT', bucket.key, bucket.expiry)
  end
  if is_folded then
    folded = folded + tonumber(ARGV[at + 2])
  end
  at = at + 4
end
local since = redis.call('HGET', KEYS[1], 'since')
if not since or tonumber(ARGV[3]) < tonumber(since) then
  redis.call('HSET', KEYS[1], 'since', ARGV[3])
end
redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[2])
return {tostring(before), tostring(folded)}

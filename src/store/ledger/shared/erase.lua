-- Takes the name of a caller out of the shared ledger. Its sums stay.
-- KEYS: meta, ids by name, names by id, erased names. ARGV: the name; for how long rows of before may still come (ms).
-- Returns `1` if there was such a caller, else `0`.
local now = redis.call('TIME')
local minute, millis = math.floor(tonumber(now[1]) / 60), tonumber(now[1]) * 1000
-- A process that was away may still push rows of before: they count as erased. The name is known by its hash for that long.
local gone = redis.call('HGETALL', KEYS[4])
for n = 1, #gone, 2 do
  if tonumber(gone[n + 1]) * 60000 + tonumber(ARGV[2]) < millis then
    redis.call('HDEL', KEYS[4], gone[n])
  end
end
redis.call('HSET', KEYS[4], redis.sha1hex(ARGV[1]), string.format('%.0f', minute))
local id = redis.call('HGET', KEYS[2], '0:' .. ARGV[1])
if not id then
  return {'0'}
end
redis.call('HDEL', KEYS[2], '0:' .. ARGV[1])
redis.call('HDEL', KEYS[3], '0:' .. id)
redis.call('HINCRBY', KEYS[1], 'live:0', -1)
return {'1'}

-- Writes into a journal what all replicas must know, numbers it, and tells it to whoever listens.
-- KEYS: the journal, a hash of fixed size: `id` (drawn when it was made), `number` (of the last record), `all` (number of the
-- last record that concerns everything), one field per slot with the number of its last record, and a ring of texts
-- `p0`, `p1`, ... as NUMBER:TEXT with their count in `texts`. A text that the ring loses counts as one about everything.
-- ARGV: an id for a new journal, the kind of record (slot, text or all), the slot's field or the text, the size of the ring,
-- the channel, the message.
-- Returns the number.
local journal = KEYS[1]
-- A first write that needs no memory: a full Redis then lets the rest of the script pass, which is bounded.
redis.call('HDEL', journal, 'none')
local id = redis.call('HGET', journal, 'id')
if not id then
  id = ARGV[1]
  redis.call('HSET', journal, 'id', id)
end
local number = redis.call('HINCRBY', journal, 'number', 1)
local kind, what = ARGV[2], ARGV[3]
if kind == 'text' then
  local field = 'p' .. string.format('%.0f', (redis.call('HINCRBY', journal, 'texts', 1) - 1) % tonumber(ARGV[4]))
  local old = redis.call('HGET', journal, field)
  if old then
    local lost = tonumber(string.match(old, '^%d+'))
    if lost > tonumber(redis.call('HGET', journal, 'all') or '0') then
      redis.call('HSET', journal, 'all', string.format('%.0f', lost))
    end
  end
  redis.call('HSET', journal, field, string.format('%.0f', number) .. ':' .. what)
elseif kind == 'all' then
  redis.call('HSET', journal, 'all', string.format('%.0f', number))
else
  redis.call('HSET', journal, what, string.format('%.0f', number))
end
redis.call('PUBLISH', ARGV[5], id .. ' ' .. string.format('%.0f', number) .. ' ' .. ARGV[6])
return number

-- The note of a work that goes on is another one from now on. A work that has ended, or that nobody knows, stays as it is.
-- KEYS: the work. ARGV: the note.
local known = redis.call('GET', KEYS[1])
if known and known ~= 'charged' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(redis.call('PTTL', KEYS[1]), 1))
end
return {}

-- Counts a refusal of somebody, and bans whoever has come to the number.
-- KEYS: the counter, a hash of slot number -> refusals; the set of bans, with the end of each in milliseconds as its score.
-- ARGV: width of a slot in milliseconds, slots of a window, refusals that make a ban, milliseconds of a ban, most bans, the member.
-- Returns '1' if the member was banned now, else '0'.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local width, slots = tonumber(ARGV[1]), tonumber(ARGV[2])
local present = math.floor(now / width)
redis.call('HINCRBY', KEYS[1], string.format('%.0f', present), 1)
local sum, flat = 0, redis.call('HGETALL', KEYS[1])
for field = 1, #flat, 2 do
  if tonumber(flat[field]) + slots <= present then
    redis.call('HDEL', KEYS[1], flat[field])
  else
    sum = sum + tonumber(flat[field + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', width * (slots + 1)))
if sum < tonumber(ARGV[3]) then
  return { '0' }
end
redis.call('DEL', KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[5])
if over >= 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over)
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[4])), ARGV[6])
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', math.max(tonumber(ARGV[4]), redis.call('PTTL', KEYS[2]))))
return { '1' }

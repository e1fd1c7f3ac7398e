-- Changes the set of bans, and tells who is in it.
-- KEYS: the set, with the end of each ban in milliseconds as its score. ARGV: most bans, then pairs of a member and its milliseconds (0: it is
-- lifted).
-- Returns pairs of a member and the milliseconds that it has left.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for at = 2, #ARGV, 2 do
  local left = tonumber(ARGV[at + 1])
  if left == 0 then
    redis.call('ZREM', KEYS[1], ARGV[at])
  else
    local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '0')
    redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(known, now + left)), ARGV[at])
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(left, redis.call('PTTL', KEYS[1]))))
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
end
local answer = {}
local flat = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #flat, 2 do
  answer[at] = flat[at]
  answer[at + 1] = string.format('%.0f', tonumber(flat[at + 1]) - now)
end
return answer

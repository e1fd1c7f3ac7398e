-- The incidents that somebody was told of, by id. KEYS: the hash. ARGV: the word; an id; for `note` a text and a life in milliseconds.
if ARGV[1] == 'note' then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {}
elseif ARGV[1] == 'strike' then
  return {tostring(redis.call('HDEL', KEYS[1], ARGV[2]))}
elseif ARGV[1] == 'has' then
  return {tostring(redis.call('HEXISTS', KEYS[1], ARGV[2]))}
end
return redis.call('HGETALL', KEYS[1])

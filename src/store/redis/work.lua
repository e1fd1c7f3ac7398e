-- A work has ended: it counts as charged from now on.
-- KEYS: the work. ARGV: for how many milliseconds that is remembered.
-- Returns what was known of it: what its beginner said, `charged`, or nothing.
local known = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], 'charged', 'PX', ARGV[1])
return known

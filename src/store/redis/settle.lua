-- Corrects reservations made by limits.lua to what they came to.
-- KEYS: one per reservation. ARGV: the time in microseconds (0: this server's), then for each reservation: slot width in
-- microseconds, slots summed, the slot charged, what to add (negative: give back).
-- A slot that has left the window takes no refund; what is owed for it is charged to the present slot.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number)
  return string.format('%.0f', number)
end

for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 4
  local width, reach, slot, change = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local present = math.floor(now / width)
  if slot + reach <= present then
    slot = present
    if change < 0 then
      change = 0
    end
  end
  if change < 0 then
    local held = tonumber(redis.call('HGET', key, whole(slot)) or '0')
    change = math.max(change, -held)
  end
  if change ~= 0 then
    redis.call('HINCRBY', key, whole(slot), whole(change))
    redis.call('PEXPIRE', key, whole(math.ceil(width * (reach + 1) / 1000)))
  end
end
return #KEYS

-- All limits of one request, decided together: either every one of them is charged or none is.
-- KEYS: one per limit, all with the same hash tag. ARGV: the time in microseconds (0: this server's), then for each limit:
-- slot width in microseconds, slots summed, limit, what must fit, what is charged, 1 if a refusal only counts, 2 if it fits in any case.
-- Returns 1 or 0 (admitted), then for each limit: 1 if it refuses, microseconds until it would fit (-1: never), what is used,
-- microseconds until the window is free, the slot charged.
-- A key is a hash of slot number -> amount; its slots are those of src/policy/limits/ring.rs. Amounts are exact below 2^53.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number)
  return string.format('%.0f', number)
end

local plans, admitted = {}, 1
for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 6
  local plan = {
    width = tonumber(ARGV[at]), reach = tonumber(ARGV[at + 1]), limit = tonumber(ARGV[at + 2]),
    check = tonumber(ARGV[at + 3]), charge = tonumber(ARGV[at + 4]), observe = ARGV[at + 5] == '1', force = ARGV[at + 5] == '2',
    used = 0, gone = {}, live = {},
  }
  plan.present = math.floor(now / plan.width)
  local flat = redis.call('HGETALL', key)
  for field = 1, #flat, 2 do
    local slot, amount = tonumber(flat[field]), tonumber(flat[field + 1])
    if slot + plan.reach <= plan.present then
      plan.gone[#plan.gone + 1] = flat[field]
    elseif amount > 0 then
      -- A slot ahead of the clock (it was set back) still counts.
      plan.used = plan.used + amount
      plan.live[#plan.live + 1] = { slot, amount }
    end
  end
  table.sort(plan.live, function(a, b) return a[1] < b[1] end)
  plan.refused = not plan.force and plan.used + plan.check > plan.limit
  if plan.refused and not plan.observe then
    admitted = 0
  end
  plans[i] = plan
end

local answer = { admitted }
for i, key in ipairs(KEYS) do
  local plan = plans[i]
  local wait, resets = 0, 0
  if plan.refused then
    wait = -1
    if plan.check <= plan.limit then
      local left = plan.used
      for _, slot in ipairs(plan.live) do
        left = left - slot[2]
        if left + plan.check <= plan.limit then
          wait = (slot[1] + plan.reach) * plan.width - now
          break
        end
      end
    end
  elseif admitted == 1 and plan.charge > 0 then
    if #plan.gone > 0 then
      redis.call('HDEL', key, unpack(plan.gone))
    end
    redis.call('HINCRBY', key, whole(plan.present), whole(plan.charge))
    redis.call('PEXPIRE', key, whole(math.ceil(plan.width * (plan.reach + 1) / 1000)))
    plan.used = plan.used + plan.charge
    plan.live[#plan.live + 1] = { plan.present, plan.charge }
  end
  if #plan.live > 0 then
    resets = (plan.live[#plan.live][1] + plan.reach) * plan.width - now
  end
  answer[#answer + 1] = plan.refused and 1 or 0
  answer[#answer + 1] = wait
  answer[#answer + 1] = plan.used
  answer[#answer + 1] = resets
  answer[#answer + 1] = plan.present
end
return answer

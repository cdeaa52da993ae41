"""Scripts that count limits in Redis: each is done whole or not at all, on the clock of Redis.

Of a window, one sorted set says until when each reservation counts, and one hash says how much it
is; under the empty name the hash holds their sum. Days and months have a number beside them: what
was settled. Reservations of a process that died stop counting when nobody renews them.

Each script may be sent again when its reply was lost: the second time changes nothing.
"""

_BEGIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function sum(amounts) return tonumber(redis.call('HGET', amounts, '') or '0') end
local function drop(times, amounts, member)
  local amount = tonumber(redis.call('HGET', amounts, member) or '0')
  redis.call('ZREM', times, member)
  redis.call('HDEL', amounts, member)
  redis.call('HINCRBY', amounts, '', 0 - amount)  -- never -0, which is no integer
end
local function keep(times, amounts, until_ms)
  redis.call('PEXPIREAT', times, until_ms)
  redis.call('PEXPIREAT', amounts, until_ms)
end
"""

LEASE = (
    _BEGIN
    + """
local member, limit, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], member) and redis.call('ZCARD', KEYS[1]) >= limit then
  return 0
end
redis.call('ZADD', KEYS[1], now + ttl, member)
redis.call('PEXPIREAT', KEYS[1], now + 2 * ttl)
return 1
"""
)
"""KEYS: the set of an owner's leases. ARGV: member, limit, ms that it counts unless renewed."""

END_LEASE = "return redis.call('ZREM', KEYS[1], ARGV[1])"
"""KEYS as LEASE. ARGV: member."""

RENEW = (
    _BEGIN
    + """
local ttl = tonumber(ARGV[1])
for n = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ttl, ARGV[n]) end
for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, now + 2 * ttl) end
return 1
"""
)
"""KEYS: a set of leases, or set and hash of a window. ARGV: ms, members."""

RESERVE = (
    _BEGIN
    + """
local member, amount, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local windows, unknown = {}, {2}
local function reset(w)
  if w.ends > 0 then return math.max(w.ends - now, 0) end
  local last = redis.call('ZRANGE', w.times, -1, -1, 'WITHSCORES')[2]
  return last and math.max(last - now, 0) or 0
end
for n = 1, #KEYS / 3 do
  local w = {times = KEYS[3 * n - 2], amounts = KEYS[3 * n - 1], used = KEYS[3 * n]}
  w.limit, w.ends, w.known = tonumber(ARGV[3 * n + 1]), tonumber(ARGV[3 * n + 2]), ARGV[3 * n + 3]
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', w.times, '-inf', now)) do
    drop(w.times, w.amounts, gone)
  end
  w.settled = 0
  if w.ends > 0 then
    if w.known ~= '' and redis.call('EXISTS', w.used) == 0 then
      redis.call('SET', w.used, w.known, 'PX', math.max(w.ends - now, 0) + 86400000)
    end
    local settled = redis.call('GET', w.used)
    if settled then w.settled = tonumber(settled) else unknown[#unknown + 1] = n - 1 end
  end
  windows[n] = w
end
if #unknown > 1 then return unknown end
local again = redis.call('HEXISTS', windows[1].amounts, member) == 1
for n, w in ipairs(windows) do
  local excess = w.settled + sum(w.amounts) + amount - w.limit
  if not again and excess > 0 then
    local wait, used = reset(w), w.settled + sum(w.amounts)
    if w.ends == 0 then
      local rows = redis.call('ZRANGE', w.times, 0, 999, 'WITHSCORES')
      for row = 1, #rows, 2 do
        excess = excess - tonumber(redis.call('HGET', w.amounts, rows[row]) or '0')
        if excess <= 0 then wait = rows[row + 1] - now break end
      end
    end
    return {0, n - 1, used, reset(w), wait}
  end
end
local answer = {1}
for _, w in ipairs(windows) do
  if not again then
    redis.call('ZADD', w.times, now + (w.ends > 0 and ttl or 60000), member)
    redis.call('HSET', w.amounts, member, amount)
    redis.call('HINCRBY', w.amounts, '', amount)
    keep(w.times, w.amounts, now + math.max(2 * ttl, 120000))
  end
  answer[#answer + 1] = w.settled + sum(w.amounts)
  answer[#answer + 1] = reset(w)
end
return answer
"""
)
"""KEYS: set, hash and number of each window. ARGV: member, amount, ms; of each window its limit,
its end (ms; 0 is none), and what was used before ('' is not known).

Returns 1 and use and ms until reset of each; or 0, the place of the window that is full, its use,
ms until reset and ms until there is room; or 2 and the places of those not counted yet."""

SETTLE = (
    _BEGIN
    + """
local member, amount, first = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
for n = 1, #KEYS / 3 do
  local times, amounts, used = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
  local held = redis.call('HGET', amounts, member)
  if tonumber(ARGV[3 + n]) > 0 then
    if held then drop(times, amounts, member) end
    if (held or first) and redis.call('EXISTS', used) == 1 then
      redis.call('INCRBY', used, amount)
    end
  elseif held then
    redis.call('HSET', amounts, member, amount)
    redis.call('HINCRBY', amounts, '', amount - tonumber(held))
  end
end
return 1
"""
)
"""KEYS as RESERVE. ARGV: member, amount, '1' when it is sent for the first time; the end of each
window. What stopped counting meanwhile counts as used none the less, but not twice."""

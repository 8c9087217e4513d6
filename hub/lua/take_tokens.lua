-- Token bucket shared by every process behind one address.
-- KEYS: bucket, ban.  ARGV: cost, capacity, tokens per ms, tokens left to others.
-- Returns ms to wait before asking again; 0 means taken. A ban makes everybody wait for its end.
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
-- Its expiry and not its value: the clock of whoever wrote it may differ.
local ban = redis.call('PTTL', KEYS[2])
if ban > 0 then
  return ban
end
local cost, capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'ms')
local tokens = math.min(capacity, (tonumber(state[1]) or capacity) + (ms - (tonumber(state[2]) or ms)) * rate)
local needed = math.min(cost + tonumber(ARGV[4]), math.max(cost, capacity))
if tokens < needed then
  return math.ceil((needed - tokens) / rate)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - cost), 'ms', tostring(ms))
redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / rate) + 1000)
return 0

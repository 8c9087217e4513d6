-- Count calls within a period, up to a limit.
-- KEYS: counter.  ARGV: cost, limit, ms until it may go.
-- Returns {1, used} where they were counted, {0, used} where they would be too many.
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then
  return {0, used}
end
used = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1, used}

-- Keep a lease, or take it back when it merely ran out.
-- KEYS: lease.  ARGV: holder, ttl in ms.  Returns {1}, or {0, holder} when somebody else has it.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return {0, held}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1}

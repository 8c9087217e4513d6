-- Take a venue's lease and a new epoch in one step.
-- KEYS: lease, epoch.  ARGV: holder, ttl in ms, now in ms, smallest epoch wanted.
-- Returns {1, epoch} when taken, {0, holder, ttl left in ms} when somebody else has it.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return {0, held, redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local epoch = math.max(tonumber(ARGV[3]), last + 1, tonumber(ARGV[4]))
-- %.0f: Lua would print a number this large in exponent form
local text = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], text)
return {1, text}

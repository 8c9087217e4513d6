-- Give a lease back, with the pulse that goes with it, unless somebody else has it.
-- KEYS: lease, pulse.  ARGV: holder.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  return 1
end
return 0

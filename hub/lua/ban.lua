-- Make everybody rest, or longer where that was said before.
-- KEYS: ban.  ARGV: ms, end in unix ms.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
end
return 1

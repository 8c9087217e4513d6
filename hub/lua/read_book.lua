-- The newest full snapshot of a book and the log after it, as one: between two commands the feed could withdraw the
-- snapshot or write another.
-- KEYS: newest, log. ARGV: entries at most. Returns false, or {snapshot, entries}.
local snapshot = redis.call('GET', KEYS[1])
if not snapshot then
  return false
end
local id = string.match(snapshot, '"id":"(%d+%-%d+)"')
if not id then
  return false
end
return {snapshot, redis.call('XRANGE', KEYS[2], '(' .. id, '+', 'COUNT', ARGV[1])}

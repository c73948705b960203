-- ARGV from 3: the key, the revision that it must have, and the value.
local at = KEYS[4]
if (redis.call('HGET', at, 'r') or '0') ~= ARGV[4] then return { 'other' } end
if not has_room(is_new(at)) then return { 'full' } end
set(at, ARGV[3], ARGV[5])
return { 'done' }

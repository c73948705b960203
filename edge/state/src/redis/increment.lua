-- ARGV from 3: the key, and what is added. The sum comes as text: numbers of this language are not of 64 bits.
local at = KEYS[4]
if not has_room(is_new(at)) then return { 'full' } end
local sum = redis.pcall('HINCRBY', at, 'v', ARGV[4])
if type(sum) == 'table' and sum.err then return { 'wrong', sum.err } end
was_set(at, ARGV[3])
return { 'done', redis.call('HGET', at, 'v') }

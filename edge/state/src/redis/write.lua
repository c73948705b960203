-- ARGV from 3: for each value a key, 'set' or 'delete', and the value. All of them, or none.
local more = 0
for number = 4, #KEYS do
  local what = ARGV[3 * number - 8]
  if what == 'set' then more = more + is_new(KEYS[number]) else more = more - 1 + is_new(KEYS[number]) end
end
if not has_room(more) then return { 'full' } end
for number = 4, #KEYS do
  local at, key, what = KEYS[number], ARGV[3 * number - 9], ARGV[3 * number - 8]
  if what == 'set' then
    set(at, key, ARGV[3 * number - 7])
  else
    redis.call('DEL', at)
    redis.call('ZREM', index, key)
    redis.call('ZREM', ends, key)
  end
end
return { 'done' }

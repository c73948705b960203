-- ARGV from 3: what values begin with, the first key of the page as ZRANGEBYLEX has it, and how many.
-- Keys whose values are gone leave the index.
local found = redis.call('ZRANGEBYLEX', index, ARGV[4], '+', 'LIMIT', 0, ARGV[5])
local page = { tostring(#found), found[#found] or '' }
for _, key in ipairs(found) do
  if redis.call('EXISTS', ARGV[3] .. key) == 1 then
    page[#page + 1] = key
  else
    redis.call('ZREM', index, key)
    redis.call('ZREM', ends, key)
  end
end
return page

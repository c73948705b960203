-- KEYS: the index of keys, that of their ends, the counter of revisions, and the value of each key that is written.
-- ARGV: the most keys, how long a value lives in milliseconds (0: for ever), and what the script is asked.
local index, ends, counter = KEYS[1], KEYS[2], KEYS[3]
local keys_max, life_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Takes keys whose values have ended out of the index, at most so many.
local function sweep(most)
  local due = redis.call('ZRANGEBYSCORE', ends, '-inf', now_ms, 'LIMIT', 0, most)
  for _, key in ipairs(due) do
    redis.call('ZREM', index, key)
    redis.call('ZREM', ends, key)
  end
end

-- Whether there is room for so many more keys.
local function has_room(more)
  if more <= 0 or redis.call('ZCARD', index) + more <= keys_max then return true end
  sweep(10000)
  return redis.call('ZCARD', index) + more <= keys_max
end

-- What follows a value that was set.
local function was_set(at, key)
  redis.call('HSET', at, 'r', redis.call('INCR', counter))
  redis.call('ZADD', index, 0, key)
  if life_ms > 0 then
    redis.call('PEXPIREAT', at, now_ms + life_ms)
    redis.call('ZADD', ends, now_ms + life_ms, key)
  else
    redis.call('PERSIST', at)
    redis.call('ZREM', ends, key)
  end
end

local function set(at, key, value)
  redis.call('DEL', at)
  redis.call('HSET', at, 'v', value)
  was_set(at, key)
end

local function is_new(at)
  if redis.call('EXISTS', at) == 0 then return 1 end
  return 0
end

sweep(100)

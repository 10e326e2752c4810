-- Replaces the table of lanes if nobody changed it meanwhile.
--
-- KEYS  1 hash
-- ARGV  1 version that the change was computed from, 0 = no table
--       2.. pairs of field, value (version included)
-- Returns 1 replaced, 0 changed meanwhile.

if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
    return 0
end
local keep = {}
for i = 2, #ARGV, 2 do
    keep[ARGV[i]] = true
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not keep[field] then
        redis.call('HDEL', KEYS[1], field)
    end
end
return 1

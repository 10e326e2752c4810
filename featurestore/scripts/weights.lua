-- Ages sums and adds to them: what choices said about the weights of a surface, what users did about a new item.
--
-- KEYS  1 hash: term -> sum
-- ARGV  1 factor that what is there is multiplied by
--       2 time to live, milliseconds
--       3.. pairs of term, addition
-- Gives the terms and sums afterwards.

local sums = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
    sums[flat[i]] = tonumber(flat[i + 1]) * tonumber(ARGV[1])
end
for i = 3, #ARGV, 2 do
    sums[ARGV[i]] = (sums[ARGV[i]] or 0) + tonumber(ARGV[i + 1])
end
local out = {}
for term, sum in pairs(sums) do
    out[#out + 1] = term
    out[#out + 1] = string.format('%.17g', sum)
end
if #ARGV > 2 then
    redis.call('HSET', KEYS[1], unpack(out))
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return out

-- Takes a lease that nobody holds, or extends one's own.
--
-- KEYS  1 the lease
-- ARGV  1 holder, 2 length in ms
-- Returns 1 when the holder has it, 0 when somebody else does.

local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

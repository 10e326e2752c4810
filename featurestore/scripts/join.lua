-- Saves one user's join of impressions and outcomes if nobody else has changed it.
--
-- KEYS  1 the join
-- ARGV  1 head (format and revision) that it was computed from, empty = nothing was stored
--       2 the new value
--       3 time to live, milliseconds
-- Returns 1 saved, 2 newer.

if redis.call('GETRANGE', KEYS[1], 0, 8) ~= ARGV[1] then
    return 2
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1

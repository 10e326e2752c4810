-- Exchanges one list for another if it still is what it was. The time to live stays.
--
-- KEYS  1 record
-- ARGV  1 the record as it was read
--       2 the new one
-- Returns 1 replaced, 0 the record has changed or is gone.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1

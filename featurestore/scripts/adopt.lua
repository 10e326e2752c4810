-- Takes a user's profile over from another lane, unless this lane has one.
--
-- KEYS  1 this lane's profile, 2 the other lane's
-- Returns 1 taken over, 0 not.

if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
local profile = redis.call('GET', KEYS[2])
if not profile then
    return 0
end
local ttl = redis.call('PTTL', KEYS[2])
if ttl > 0 then
    redis.call('SET', KEYS[1], profile, 'PX', ttl)
else
    redis.call('SET', KEYS[1], profile)
end
return 1

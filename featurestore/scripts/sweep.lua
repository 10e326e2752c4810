-- Brings one list of a user who has a new owner to the public key: the lane's own, as of the version at which it became the owner.
-- A list that the owner has made public meanwhile stays. The former owner keeps a copy of what stood there, for the way back.
--
-- KEYS  1 the new owner's own list, 2 the public list, 3 the former owner's own list (may be missing)
-- ARGV  1 cv, 2 name of the former owner
-- Returns code, public list as it is now: 0 the lane has no list of his, or owes it, so that the former owner's stays; 1 exchanged; 2 it was public.

local own, public = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or ''
local cv = string.match(public, '^{"v":1,"cv":(%d+),') or '0'
if #cv > #ARGV[1] or (#cv == #ARGV[1] and tonumber(cv) >= tonumber(ARGV[1])) then
    return {2, public}
end
local rev, id, rest
if own and not string.find(own, ',"items":[]', 1, true) then -- without items it is owed by a lane that has not caught up
    rev, id, rest = string.match(own, '^{"v":1,"cv":%d+,"rev":(%d+),"rec_id":"([^"]*)"(.*)$')
end
if not rev then
    return {0, public}
end

local function put(key, value, as)
    local ttl = redis.call('PTTL', as)
    if ttl > 0 then
        redis.call('SET', key, value, 'PX', ttl)
    else
        redis.call('SET', key, value)
    end
end

if KEYS[3] and public ~= '' and string.find(public, ',"lane":"' .. ARGV[2] .. '",', 1, true) and redis.call('EXISTS', KEYS[3]) == 0 then
    put(KEYS[3], public, KEYS[2])
end
local value = '{"v":1,"cv":' .. ARGV[1] .. ',"rev":' .. rev .. ',"rec_id":"' .. string.gsub(id, '%-cv%d+$', '') .. '-cv' .. ARGV[1] .. '"' .. rest
put(KEYS[2], value, KEYS[1])
return {1, value}

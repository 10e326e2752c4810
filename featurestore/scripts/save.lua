-- Saves one user's profile and every list computed from it, or nothing.
--
-- KEYS  1 profile, 2.. records, then, where the lane keeps a copy of public records, its own
-- ARGV  1 version that the update was computed from (12 bytes: rev, checksum), empty = nothing was stored
--       2 the new profile
--       3 time to live, milliseconds
--       4 cv of the owning lane when the records are public, empty when they are the lane's own
--       5.. one value per record, empty = delete
-- Returns 1 saved, 2 newer, 3 lost, 5 saved but a public record of a higher rank stands.

local byte, sub = string.byte, string.sub

-- Lua compares strings by the server's locale; versions and numbers are compared by value.
local function less(a, b)
    for i = 1, 8 do
        local x, y = byte(a, i), byte(b, i)
        if x ~= y then
            return x < y
        end
    end
    return false
end

local function above(a, b)
    if #a ~= #b then
        return #a > #b
    end
    local x, y = tonumber(sub(a, 1, 10)), tonumber(sub(b, 1, 10))
    if x ~= y then
        return x > y
    end
    return (tonumber(sub(a, 11)) or 0) > (tonumber(sub(b, 11)) or 0)
end

local head = '^{"v":1,"cv":(%d+),"rev":(%d+),'

-- A public record gives way neither to a lower cv nor, within one cv, to a lower rev. A deletion has no rev.
local function outranks(key, value)
    local cv, rev = string.match(redis.call('GETRANGE', key, 0, 63), head)
    if not cv then
        return false
    end
    local newcv, newrev = ARGV[4], nil
    if value ~= '' then
        newcv, newrev = string.match(value, head)
        if not newcv then
            return false
        end
    end
    if cv ~= newcv then
        return above(cv, newcv)
    end
    return newrev ~= nil and above(rev, newrev)
end

local stored, base = redis.call('GETRANGE', KEYS[1], 1, 12), ARGV[1]
if #stored < 12 then
    stored = '' -- shorter than any profile: nothing
end
if stored ~= base then
    if stored == '' or (base ~= '' and less(stored, base)) then
        return 3
    end
    return 2
end

-- The profile goes first: when memory is short the script fails at its first write, before anything changed.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local function put(key, value)
    if value == '' then
        redis.call('DEL', key)
    else
        redis.call('SET', key, value, 'PX', ARGV[3])
    end
end

local records, result = #ARGV - 4, 1
for i = 1, records do
    local value, own = ARGV[i + 4], KEYS[1 + records + i]
    if ARGV[4] ~= '' and outranks(KEYS[1 + i], value) then
        result = 5
    else
        put(KEYS[1 + i], value)
    end
    if own then
        put(own, value)
    end
end
return result

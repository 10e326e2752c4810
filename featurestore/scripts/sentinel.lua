-- Writes what one worker has saved on this server, unless the server forgot what the worker wrote last.
--
-- KEYS  1 marks: hash, "w <worker>" -> time of its last mark, "p <source>" -> offset and time
--       2 history: hash, minute -> the marks as they stood at its first write
-- ARGV  1 worker
--       2 time of the last mark that is known to have been written here, 0 = none; a later one may have been written unheard
--       3 now, Unix milliseconds
--       4.. pairs of source, offset
-- Returns 1 written, 0 forgotten.

local worker, now = 'w ' .. ARGV[1], tonumber(ARGV[3])
if ARGV[2] ~= '0' and (tonumber(redis.call('HGET', KEYS[1], worker) or nil) or 0) < tonumber(ARGV[2]) then
    return 0
end

local minute = math.floor(now / 60000)
if redis.call('HEXISTS', KEYS[2], minute) == 0 then
    local all, lines = redis.call('HGETALL', KEYS[1]), {}
    for i = 1, #all, 2 do
        if string.sub(all[i], 1, 2) == 'p ' then
            lines[#lines + 1] = string.sub(all[i], 3) .. ' ' .. all[i + 1]
        else
            if all[i] ~= worker and now - tonumber(all[i + 1]) > 3600000 then
                redis.call('HDEL', KEYS[1], all[i]) -- a worker that is gone
            end
        end
    end
    redis.call('HSET', KEYS[2], minute, table.concat(lines, '\n'))
    for _, old in ipairs(redis.call('HKEYS', KEYS[2])) do
        if tonumber(old) <= minute - 60 then
            redis.call('HDEL', KEYS[2], old)
        end
    end
end

redis.call('HSET', KEYS[1], worker, ARGV[3])
for i = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'p ' .. ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[3])
end
return 1

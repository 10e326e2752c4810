-- Adds decayed weights to the successors of one item.
--
-- A member's score is the base-2 logarithm of its weight, inflated by time: log2(sum of w * 2^(t / half-life)), t since the epoch.
-- Decay multiplies all of them alike, so the order of the set is right at any moment, nothing is ever rewritten for ageing, and
-- logarithms never overflow. The weight at time n is 2^(score - n / half-life).
--
-- KEYS  1 sorted set
-- ARGV  1 members to keep
--       2 time to live, milliseconds
--       3 highest believable score: a set above it was counted with another half-life and starts anew
--       4.. pairs of score to add, member

local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if top[2] and tonumber(top[2]) > tonumber(ARGV[3]) then
    redis.call('DEL', KEYS[1])
end
-- One ZMSCORE and one ZADD for many members: a call for each of them takes the server several times as long, and everybody waits for it.
local CALL = 500
for first = 4, #ARGV, 2 * CALL do
    local last = math.min(first + 2 * CALL - 1, #ARGV)
    local members, puts = {}, {}
    for i = first, last, 2 do
        members[#members + 1] = ARGV[i + 1]
    end
    local olds = redis.call('ZMSCORE', KEYS[1], unpack(members))
    for n, member in ipairs(members) do
        local add = tonumber(ARGV[first + 2 * (n - 1)])
        if olds[n] then
            local high, low = tonumber(olds[n]), add
            if low > high then
                high, low = low, high
            end
            add = high + math.log(1 + 2 ^ (low - high)) / math.log(2)
        end
        puts[2 * n - 1], puts[2 * n] = string.format('%.17g', add), member
    end
    redis.call('ZADD', KEYS[1], unpack(puts))
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

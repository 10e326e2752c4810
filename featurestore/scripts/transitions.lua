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
for i = 4, #ARGV, 2 do
    local add, member = tonumber(ARGV[i]), ARGV[i + 1]
    local old = redis.call('ZSCORE', KEYS[1], member)
    if old then
        local high, low = tonumber(old), add
        if low > high then
            high, low = low, high
        end
        add = high + math.log(1 + 2 ^ (low - high)) / math.log(2)
    end
    redis.call('ZADD', KEYS[1], string.format('%.17g', add), member)
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

"""Scripts by which the explorer itself asks the server, and empties its database."""

__all__ = ["DEADLINES", "EMPTY", "EXPIRABLE", "STATE", "VALUES"]

# Returns those of the named keys (or keys that match a pattern) that have a time to live, and of hashes
# each such field, sorted.
# KEYS: none; ARGV: names or glob patterns.
EXPIRABLE = """
local found = {}
for _, pattern in ipairs(ARGV) do
  local names = {pattern}
  if string.find(pattern, '[*?%[]') then
    names = redis.call('KEYS', pattern)
  end
  for _, name in ipairs(names) do
    if redis.call('PTTL', name) > 0 then found[#found + 1] = {name} end
    if redis.call('TYPE', name).ok == 'hash' then
      local fields = redis.call('HKEYS', name)
      for first = 1, #fields, 1000 do
        local last = math.min(first + 999, #fields)
        local left = redis.pcall('HPTTL', name, 'FIELDS', last - first + 1, unpack(fields, first, last))
        for at = first, left.err and 0 or last do
          if left[at - first + 1] > 0 then found[#found + 1] = {name, fields[at]} end
        end
      end
    end
  end
end
table.sort(found, function(a, b) return a[1] .. (a[2] or '') < b[1] .. (b[2] or '') end)
return found
"""

# Deletes every key of the database, which is the lab's own, but its mark of ownership. FLUSHDB takes
# ten times as long on a small database. KEYS: none; ARGV[1]: the key to keep.
EMPTY = """
local cursor = '0'
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, name in ipairs(page[2]) do
    if name ~= ARGV[1] then redis.call('DEL', name) end
  end
until cursor == '0'
"""

# A digest of all keys, their values and when they end. KEYS: none.
STATE = """
local found = redis.call('KEYS', '*')
table.sort(found)
for at, key in ipairs(found) do
  found[at] = key .. redis.call('DUMP', key) .. redis.call('PEXPIRETIME', key)
end
return redis.sha1hex(table.concat(found))
"""

# How much ends, being over by ARGV[1], and when the other keys and fields of hashes do, in ms since
# 1970, sorted. KEYS: none; ARGV[2…]: only of these keys, if there are any.
DEADLINES = """
local found, ended, cursor, now = {}, 0, '0', tonumber(ARGV[1])
local wanted = {}
for at = 2, #ARGV do wanted[ARGV[at]] = true end
local function ends(moment, remove, key)
  if moment <= 0 then return end
  if moment <= now then
    remove()
    ended = ended + 1
  elseif #ARGV < 2 or wanted[key] then
    found[#found + 1] = moment
  end
end
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    ends(redis.call('PEXPIRETIME', key), function() redis.call('PEXPIRE', key, 0) end, key)
    if redis.call('TYPE', key).ok == 'hash' then
      for _, field in ipairs(redis.call('HKEYS', key)) do
        local known = redis.pcall('HPEXPIRETIME', key, 'FIELDS', 1, field)
        if not known.err then
          ends(known[1], function() redis.call('HDEL', key, field) end, key)
        end
      end
    end
  end
until cursor == '0'
table.sort(found)
return {ended, found}
"""

# All that is in strings, hashes, sorted sets and lists, as far as it is short. KEYS: none.
VALUES = """
local found, ask = {}, {
  string = {'GET'}, hash = {'HVALS'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, list = {'LRANGE', 0, -1},
}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local how = ask[redis.call('TYPE', key).ok]
  local told = how and redis.call(how[1], key, unpack(how, 2))
  for _, value in ipairs(type(told) == 'table' and told or {told}) do
    if value and #value < 200 then found[#found + 1] = value end
  end
end
return found
"""

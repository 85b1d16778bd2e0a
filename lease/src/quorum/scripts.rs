//! The layout of a node, and the scripts of requests.
//!
//! Each request is one script, which a node runs in one step. All values are arguments.
//!
//! | key | value |
//! |---|---|
//! | `latchwork:1:lock:LENGTH:NAMESPACE:NAME` | a lock: see [`Lock`]; it expires |
//! | `latchwork:1:fence:NAMESPACE` | the fence counter, which only grows |
//! | `latchwork:1:config` | the hash of the configuration |
//! | `latchwork:1:members` | the configuration in words, for errors |
//! | `latchwork:1:complete` | the hash, once a client has read it on all nodes of its list |

use crate::engine::{Key, Nonce};

/// The key of the configuration.
pub(super) const CONFIG: &str = "latchwork:1:config";

/// The key of the configuration in words.
pub(super) const MEMBERS: &str = "latchwork:1:members";

/// The key of the configuration that all of its nodes have stored.
pub(super) const COMPLETE: &str = "latchwork:1:complete";

/// The beginning of all keys of locks.
pub(super) const LOCKS: &str = "latchwork:1:lock:";

/// The beginning of all keys of fence counters.
pub(super) const FENCES: &str = "latchwork:1:fence:";

/// The channel of released keys.
pub(super) const CHANNEL: &str = "latchwork:1:free";

/// Follows the hash of a configuration that is being changed.
pub(super) const CLOSING: &str = " closing";

/// Returns the key of a lock. The length keeps namespaces and names apart.
pub(super) fn lock(key: Key<'_>) -> String {
    format!("{}{}", locks(key.namespace), key.name)
}

/// Returns the beginning of the keys of all locks of a namespace.
pub(super) fn locks(namespace: &str) -> String {
    format!("{LOCKS}{}:{namespace}:", namespace.len())
}

/// Returns the key of the fence counter of a namespace.
pub(super) fn fence(namespace: &str) -> String {
    format!("{FENCES}{namespace}")
}

/// Returns a nonce as the scripts compare it.
pub(super) fn nonce(nonce: Nonce) -> String {
    format!("{:032x}", nonce.get())
}

/// Returns a token as the scripts compare it: Lua's numbers have only 53 bits.
pub(super) fn token(token: u64) -> String {
    format!("{token:020}")
}

/// A lock as a node stores it: `NONCE TOKEN GRANTED OWNER`, of which the first three have a fixed
/// width. A `+` follows the token instead of a space if the node granted a greater value, so that
/// it is not counted for this token [QU3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) nonce: Nonce,
    pub(super) token: u64,
    /// Milliseconds since 1970, by the clock of the node.
    pub(super) granted: u64,
    pub(super) owner: String,
}

impl Lock {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (granted, owner) = text.get(54..)?.split_once(' ')?;
        Some(Lock {
            nonce: Nonce::new(u128::from_str_radix(text.get(..32)?, 16).ok()?),
            token: text.get(33..53)?.parse().ok()?,
            granted: granted.parse().ok()?,
            owner: owner.to_owned(),
        })
    }
}

/// Escapes the characters that have a meaning in a pattern of `SCAN`.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A script of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Grant,
    Raise,
    Renew,
    Repair,
    Free,
    Read,
    Floor,
    Claim,
}

/// All scripts, in the order of their numbers.
pub(super) const ALL: [Script; 8] = [
    Script::Grant,
    Script::Raise,
    Script::Renew,
    Script::Repair,
    Script::Free,
    Script::Read,
    Script::Floor,
    Script::Claim,
];

impl Script {
    /// Returns the text of the script.
    pub(super) fn text(self) -> &'static str {
        let text = match self {
            Script::Grant => ACQUIRE,
            Script::Raise => RAISE,
            Script::Renew => RENEW,
            Script::Repair => REPAIR,
            Script::Free => RELEASE,
            Script::Read => READ,
            Script::Floor => FLOOR,
            Script::Claim => CLAIM,
        };
        #[cfg(latchwork_plant)]
        let text = super::plant::changed(self, text);
        text
    }
}

/// KEYS: config, lock, fence. ARGV: hash, nonce, milliseconds, owner.
///
/// Grants the lock if no nonce holds it, or if this one does. The counter increases only in the
/// first case [QU2]. Lua's numbers are exact below 2^53. The result is `G token`, `H token` of the
/// nonce that holds the lock already, `R` if it holds the lock under a token below what the node
/// granted, `B milliseconds nonce`, or `C hash` of another configuration.
const ACQUIRE: &str = "
local c = redis.call('GET', KEYS[1])
if c ~= ARGV[1] then return {'C', c or ''} end
local v = redis.call('GET', KEYS[2])
if v then
  if string.sub(v, 1, 32) ~= ARGV[2] then
    return {'B', redis.call('PTTL', KEYS[2]), string.sub(v, 1, 32)}
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  if string.sub(v, 54, 54) == '+' then return {'R'} end
  return {'H', string.sub(v, 34, 53)}
end
local t = redis.call('INCR', KEYS[3])
if t < 9007199254740992 then
  t = string.format('%020.0f', t)
else
  t = redis.call('GET', KEYS[3])
  t = string.rep('0', 20 - #t) .. t
end
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('SET', KEYS[2], table.concat({ARGV[2], t, now, ARGV[4]}, ' '), 'PX', ARGV[3])
return {'G', t}
";

/// KEYS: lock, fence. ARGV: nonce, token of a fixed width, token.
///
/// Raises the counter to the token, and stores the token in the lock, only while the nonce holds
/// the lock. Returns whether it does, and the node did not grant a greater value [QU3].
const RAISE: &str = "
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 1, 32) ~= ARGV[1] then return 0 end
local c = redis.call('GET', KEYS[2]) or '0'
if string.rep('0', 20 - #c) .. c < ARGV[2] then redis.call('SET', KEYS[2], ARGV[3]) end
local mark = string.sub(v, 54, 54)
if string.sub(v, 34, 53) ~= ARGV[2] then
  if string.sub(v, 34, 53) > ARGV[2] then mark = '+' end
  v = string.sub(v, 1, 33) .. ARGV[2] .. mark .. string.sub(v, 55)
  redis.call('SET', KEYS[1], v, 'KEEPTTL')
end
if mark == '+' then return 0 end
return 1
";

/// KEYS: config, then locks. ARGV: hash, then for each lock `NONCE TOKEN` and milliseconds.
///
/// Extends the locks that the nonces hold under their tokens, and grants none [QU5]. The result has
/// a letter for each lock: `H` held, `T` held under another token, `A` absent, `O` another nonce.
const RENEW: &str = "
local c = redis.call('GET', KEYS[1])
if c ~= ARGV[1] and c ~= ARGV[1] .. ' closing' then return {'C', c or ''} end
local out = {}
for i = 2, #KEYS do
  local v = redis.call('GET', KEYS[i])
  local p = ARGV[2 * i - 2]
  if not v then
    out[#out + 1] = 'A'
  elseif string.sub(v, 1, 53) == p then
    redis.call('PEXPIRE', KEYS[i], ARGV[2 * i - 1])
    out[#out + 1] = 'H'
  elseif string.sub(v, 1, 32) == string.sub(p, 1, 32) then
    out[#out + 1] = 'T'
  else
    out[#out + 1] = 'O'
  end
end
return table.concat(out)
";

/// KEYS: config, lock, fence. ARGV: hash, nonce, token of a fixed width, token, milliseconds, the
/// lock of another node.
///
/// Acquires the lock again for a nonce that a majority of the nodes has renewed, unless another
/// nonce holds it here. The counter is then at least the token [QU6].
const REPAIR: &str = "
local h = redis.call('GET', KEYS[1])
if h ~= ARGV[1] then return 0 end
local v = redis.call('GET', KEYS[2])
if v and string.sub(v, 1, 32) ~= ARGV[2] then return 0 end
local c = redis.call('GET', KEYS[3]) or '0'
c = string.rep('0', 20 - #c) .. c
if c < ARGV[3] then redis.call('SET', KEYS[3], ARGV[4]) end
local l = ARGV[6]
if c > ARGV[3] then l = string.sub(l, 1, 53) .. '+' .. string.sub(l, 55) end
redis.call('SET', KEYS[2], l, 'PX', ARGV[5])
return 1
";

/// KEYS: lock. ARGV: nonce, the channel or nothing, the hash of the key.
const RELEASE: &str = "
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 1, 32) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return 1
";

/// KEYS: locks. The result has the node's time, then each lock and its milliseconds.
const READ: &str = "
local now = redis.call('TIME')
local out = {string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))}
for i = 1, #KEYS do
  out[#out + 1] = redis.call('GET', KEYS[i])
  out[#out + 1] = redis.call('PTTL', KEYS[i])
end
return out
";

/// KEYS: config, fence. ARGV: hash, token of a fixed width, token.
const FLOOR: &str = "
local h = redis.call('GET', KEYS[1])
if h ~= ARGV[1] then return {'C', h or ''} end
local c = redis.call('GET', KEYS[2]) or '0'
if string.rep('0', 20 - #c) .. c < ARGV[2] then redis.call('SET', KEYS[2], ARGV[3]) end
return 1
";

/// KEYS: config, members, complete. ARGV: the hash to replace or nothing, the new hash, the new
/// members, the hash that all nodes have.
///
/// Replaces the configuration if it is absent or the one named. The result is the present one, its
/// members, and `1` if all nodes had it [QU7].
const CLAIM: &str = "
local h = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' and (not h or h == ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('SET', KEYS[2], ARGV[3])
  h = ARGV[2]
end
if h and h == ARGV[4] then redis.call('SET', KEYS[3], h) end
local complete = ''
if h and redis.call('GET', KEYS[3]) == h then complete = '1' end
return {h or '', redis.call('GET', KEYS[2]) or '', complete}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_concatenated() {
        let key = |namespace, name| lock(Key { namespace, name });
        assert_eq!(key("a", "b"), "latchwork:1:lock:1:a:b");
        assert_ne!(key("a:1", "b"), key("a", "1:b"));
        assert_eq!(escape("a*[b]?\\c"), "a\\*\\[b\\]\\?\\\\c");
        assert_eq!(token(u64::MAX).len(), 20);
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let nonce = Nonce::new(17);
        let text = format!(
            "{} {} 1700000000000 the owner: x",
            super::nonce(nonce),
            token(9)
        );
        let lock = Lock::parse(text.as_bytes()).unwrap();
        assert_eq!((lock.nonce, lock.token), (nonce, 9));
        assert_eq!(
            (lock.granted, lock.owner.as_str()),
            (1_700_000_000_000, "the owner: x")
        );
        assert_eq!(Lock::parse(b"another program's value"), None);
    }
}

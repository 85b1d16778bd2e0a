//! Deliberate bugs in the scripts: see [`crate::plant`].

use crate::plant::planted;

/// Returns the text of a script, with the bug that is active.
pub(super) fn changed(script: super::scripts::Script, text: &'static str) -> &'static str {
    use super::scripts::Script;
    let (from, to) = match script {
        Script::Raise if planted("unconditional write-back") => (
            "if not v or string.sub(v, 1, 32) ~= ARGV[1] then return 0 end",
            "if not v then v = ARGV[1] .. ' ' .. ARGV[2] .. ' 0 planted' end",
        ),
        Script::Raise if planted("greater values count") => ("mark = '+' end", "mark = ' ' end"),
        Script::Renew if planted("renewal by upsert") => (
            "out[#out + 1] = 'A'",
            "redis.call('SET', KEYS[i], p .. ' 0 planted', 'PX', ARGV[2 * i - 1]) \
             out[#out + 1] = 'H'",
        ),
        Script::Grant if planted("no configuration hash") => {
            ("if c ~= ARGV[1] then", "if false then")
        }
        Script::Renew if planted("no configuration hash") => {
            ("if c ~= ARGV[1] and", "if false and")
        }
        _ => return text,
    };
    assert!(text.contains(from), "the script has changed: {text}");
    Box::leak(text.replace(from, to).into_boxed_str())
}

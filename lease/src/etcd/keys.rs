//! The keys of the engine in etcd.
//!
//! | key | value |
//! |---|---|
//! | `layout` | the version of this table |
//! | `q/NAMESPACE\0NAME\0NONCE` | a request: the holder is the first by create revision |
//! | `l/LEASE/NONCE` | empty; it exists while the request of the nonce is attached to the lease |
//! | `t/NONCE` | empty; it forbids a delayed request of the nonce |
//! | `o/NAMESPACE` | the offset of the tokens |
//!
//! No name contains a zero, so no name is a prefix of another one followed by a zero.

use crate::engine::{Key, Nonce};

/// The version of the layout.
pub(super) const LAYOUT: &str = "1";

/// Makes keys under one prefix.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Keys {
            prefix: prefix.as_bytes().to_vec(),
        }
    }

    fn make(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = self.prefix.clone();
        for part in parts {
            key.extend_from_slice(part);
        }
        key
    }

    pub(super) fn layout(&self) -> Vec<u8> {
        self.make(&[b"layout"])
    }

    pub(super) fn offset(&self, namespace: &str) -> Vec<u8> {
        self.make(&[b"o/", namespace.as_bytes()])
    }

    /// The prefix of the requests for a key.
    pub(super) fn queue(&self, key: Key<'_>) -> Vec<u8> {
        self.make(&[
            b"q/",
            key.namespace.as_bytes(),
            &[0],
            key.name.as_bytes(),
            &[0],
        ])
    }

    /// The request of a nonce.
    pub(super) fn request(&self, key: Key<'_>, nonce: Nonce) -> Vec<u8> {
        let mut request = self.queue(key);
        request.extend_from_slice(hexadecimal(nonce).as_bytes());
        request
    }

    /// The prefix of the requests for all names of a namespace that begin with `prefix`.
    pub(super) fn names(&self, namespace: &str, prefix: &str) -> Vec<u8> {
        self.make(&[b"q/", namespace.as_bytes(), &[0], prefix.as_bytes()])
    }

    /// The prefix of the requests that are attached to a lease.
    pub(super) fn attached(&self, lease: i64) -> Vec<u8> {
        self.make(&[b"l/", format!("{lease:016x}/").as_bytes()])
    }

    pub(super) fn attachment(&self, lease: i64, nonce: Nonce) -> Vec<u8> {
        let mut key = self.attached(lease);
        key.extend_from_slice(hexadecimal(nonce).as_bytes());
        key
    }

    pub(super) fn tombstone(&self, nonce: Nonce) -> Vec<u8> {
        self.make(&[b"t/", hexadecimal(nonce).as_bytes()])
    }

    /// Returns the name and the nonce of a request.
    pub(super) fn parse_request(&self, key: &[u8]) -> Option<(String, Nonce)> {
        let rest = key.strip_prefix(self.make(&[b"q/"]).as_slice())?;
        let mut parts = rest.split(|byte| *byte == 0);
        let (_namespace, name, nonce) = (parts.next()?, parts.next()?, parts.next()?);
        let name = String::from_utf8(name.to_vec()).ok()?;
        Some((name, parse_nonce(nonce)?))
    }
}

fn hexadecimal(nonce: Nonce) -> String {
    format!("{:032x}", nonce.get())
}

/// Returns the nonce at the end of a key.
pub(super) fn parse_nonce(key: &[u8]) -> Option<Nonce> {
    let digits = std::str::from_utf8(key.get(key.len().checked_sub(32)?..)?).ok()?;
    u128::from_str_radix(digits, 16).ok().map(Nonce::new)
}

/// Returns the first key behind all keys with this prefix.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Every key has this prefix.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_the_queue_of_another_name() {
        let keys = Keys::new("x/");
        let key = |namespace, name| Key { namespace, name };
        let all = [
            key("a", "b"),
            key("a", "bc"),
            key("ab", "c"),
            key("a", "b/c"),
        ];
        for one in all {
            let request = keys.request(one, Nonce::new(7));
            for other in all {
                let is_inside = request.starts_with(&keys.queue(other));
                assert_eq!(is_inside, one == other, "{one:?} {other:?}");
            }
            let (name, nonce) = keys.parse_request(&request).unwrap();
            assert_eq!((name.as_str(), nonce), (one.name, Nonce::new(7)));
        }
        assert_eq!(end_of(b"a\xff"), b"b");
    }
}

//! What the tests of several engines share.
#![allow(dead_code, unreachable_pub)]

pub mod installed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use latchwork_lease::engine::{Attempt, Engine, EngineError, Key, Nonce, Outcome, Request};

/// An empty folder that is removed with the value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        Self::within(&env::temp_dir())
    }

    pub fn within(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("latchwork-lease-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub const KEY: Key<'static> = Key {
    namespace: "tests",
    name: "reports/nightly",
};

pub fn key(name: &str) -> Key<'_> {
    Key {
        namespace: "tests",
        name,
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

pub fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub fn request(key: Key<'_>, nonce: u128, ttl: Duration) -> Request<'_> {
    Request {
        key,
        nonce: Nonce::new(nonce),
        owner: "a test",
        ttl,
    }
}

/// Asks once, and returns the token if the key was free.
pub fn attempt(engine: &dyn Engine, key: Key<'_>, nonce: u128, ttl: Duration) -> Option<u64> {
    match engine.try_acquire(&request(key, nonce, ttl), soon()) {
        Ok(Attempt::Granted(token)) => Some(token.get()),
        Ok(Attempt::Busy { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Returns the text of an error that persists until the configuration changes: one line.
pub fn refusal<E>(opened: Result<E, EngineError>) -> String {
    let Err(error) = opened else {
        panic!("it is not refused");
    };
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false),
        "{error}"
    );
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

/// Returns the first block of code of the README in a language.
pub fn code_of_the_readme(language: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let mark = format!("```{language}\n");
    let (_, code) = readme.split_once(&mark).unwrap();
    code.split("```").next().unwrap()
}

/// Checks a fence at a resource without data. `write` has a body, a token and a nonce, and returns
/// whether the write was accepted.
pub fn assert_refuses_late_writes(mut write: impl FnMut(&str, i64, &str) -> bool) {
    for (body, token, nonce, is_accepted) in [
        ("first", 7, "a", true),
        ("again", 7, "a", true),
        ("another holder of the number", 7, "b", false),
        ("second", 8, "c", true),
        ("late", 7, "a", false),
        ("far later", 1 << 62, "d", true),
        ("late by one", (1 << 62) - 1, "e", false),
    ] {
        assert_eq!(write(body, token, nonce), is_accepted, "{body}");
    }
}

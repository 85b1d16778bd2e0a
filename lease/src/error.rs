//! Errors, which state what is known about the effect of a call.

use core::fmt;
use std::error::Error;

use crate::engine::{EngineError, Outcome};
use crate::name::{InvalidName, InvalidTtl};

/// The cause of an error.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// The error of an acquisition.
///
/// Its text and its sources never contain a password.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// The name was held by another lease until the time limit of the caller.
    GaveUp,
    /// The engine did not answer, or answered with a temporary error.
    Unavailable {
        /// Whether the engine may have granted the lease, or may still grant it. Such a lease is
        /// released in the background until it is over.
        outcome: Outcome,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The acquisition cannot succeed until the configuration or the program changes.
    Misconfigured(Box<dyn Error + Send + Sync>),
    /// The name is refused. Nothing was sent.
    InvalidName(InvalidName),
    /// The length of the lease is refused. Nothing was sent.
    InvalidTtl(InvalidTtl),
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::GaveUp => f.write_str("timed out: the name is held by another lease"),
            AcquireError::Unavailable { outcome, source } => unavailable(f, *outcome, source),
            AcquireError::Misconfigured(source) => write!(f, "misconfigured: {source}"),
            AcquireError::InvalidName(reason) => write!(f, "invalid name: {reason}"),
            AcquireError::InvalidTtl(reason) => write!(f, "invalid length of a lease: {reason}"),
        }
    }
}

fn unavailable(f: &mut fmt::Formatter<'_>, outcome: Outcome, source: &Cause) -> fmt::Result {
    let effect = match outcome {
        Outcome::NotDone => "the call had no effect",
        Outcome::Unknown => "the call may have had its effect",
    };
    write!(f, "engine unavailable: {source} ({effect})")
}

fn inner(source: &Cause) -> Option<&(dyn Error + 'static)> {
    // The text of the cause is part of this error's text.
    source.source()
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AcquireError::Unavailable { source, .. } | AcquireError::Misconfigured(source) => {
                inner(source)
            }
            _ => None,
        }
    }
}

impl From<InvalidName> for AcquireError {
    fn from(reason: InvalidName) -> Self {
        AcquireError::InvalidName(reason)
    }
}

impl From<InvalidTtl> for AcquireError {
    fn from(reason: InvalidTtl) -> Self {
        AcquireError::InvalidTtl(reason)
    }
}

impl From<EngineError> for AcquireError {
    fn from(error: EngineError) -> Self {
        if error.is_temporary {
            AcquireError::Unavailable {
                outcome: error.outcome,
                source: error.source,
            }
        } else {
            AcquireError::Misconfigured(error.source)
        }
    }
}

/// The error of a call that asks about leases, breaks one, or raises a counter.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The engine did not answer, or answered with a temporary error.
    Unavailable {
        /// Whether the call may have had its effect.
        outcome: Outcome,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The call cannot succeed until the configuration or the program changes.
    Misconfigured(Box<dyn Error + Send + Sync>),
    /// The name is refused. Nothing was sent.
    InvalidName(InvalidName),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unavailable { outcome, source } => unavailable(f, *outcome, source),
            CallError::Misconfigured(source) => write!(f, "misconfigured: {source}"),
            CallError::InvalidName(reason) => write!(f, "invalid name: {reason}"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Unavailable { source, .. } | CallError::Misconfigured(source) => {
                inner(source)
            }
            CallError::InvalidName(_) => None,
        }
    }
}

impl From<InvalidName> for CallError {
    fn from(reason: InvalidName) -> Self {
        CallError::InvalidName(reason)
    }
}

impl From<EngineError> for CallError {
    fn from(error: EngineError) -> Self {
        if error.is_temporary {
            CallError::Unavailable {
                outcome: error.outcome,
                source: error.source,
            }
        } else {
            CallError::Misconfigured(error.source)
        }
    }
}

/// The error of a release: it is not known whether the engine still has the lease.
///
/// The release is repeated in the background until the lease is over. The caller does not hold the
/// lease any more.
#[derive(Debug)]
pub struct ReleaseError {
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        write!(
            f,
            "release not confirmed: {source} (it is repeated until the lease is over)"
        )
    }
}

impl Error for ReleaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        inner(&self.source)
    }
}

/// The error of a connection to an engine.
///
/// It names the scheme of the URL and no other part, because a URL may contain a password.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL has no scheme, or one that no engine has.
    UnknownScheme {
        /// The scheme: the text before the first colon.
        scheme: String,
    },
    /// The engine is not compiled into this program.
    MissingFeature {
        /// The scheme of the URL.
        scheme: String,
        /// The feature of this crate that contains the engine.
        feature: &'static str,
    },
    /// The engine refused the URL or cannot be reached.
    Engine(EngineError),
    /// An option of the builder is refused.
    InvalidOption {
        /// The option.
        option: &'static str,
        /// The reason.
        reason: String,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::UnknownScheme { scheme } => {
                write!(f, "no engine has the scheme {scheme:?}")
            }
            ConnectError::MissingFeature { scheme, feature } => {
                write!(
                    f,
                    "the scheme {scheme:?} needs the feature `{feature}` of latchwork-lease"
                )
            }
            ConnectError::Engine(error) => fmt::Display::fmt(error, f),
            ConnectError::InvalidOption { option, reason } => {
                write!(f, "invalid option `{option}`: {reason}")
            }
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ConnectError::Engine(error) => error.source(),
            _ => None,
        }
    }
}

impl From<EngineError> for ConnectError {
    fn from(error: EngineError) -> Self {
        ConnectError::Engine(error)
    }
}

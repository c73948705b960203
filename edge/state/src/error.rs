//! Why a store did not do what it was asked.

use std::borrow::Cow;

/// Why a store did not do what it was asked. The texts are safe to show to whoever asked: no address, no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may not be, however often it is asked: a bound, or a value that is not what it should be.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// It could not be now: the engine is away, or busy. What was to be written may be written or not.
    #[error("the store cannot be reached now: {0}")]
    Unavailable(Cow<'static, str>),
}

impl Error {
    pub(crate) fn refused(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(text.into())
    }

    pub(crate) fn unavailable(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Unavailable(text.into())
    }

    pub(crate) fn too_slow() -> Self {
        Self::unavailable("it did not answer in time")
    }

    pub(crate) fn too_many_keys(keys_max: u64) -> Self {
        Self::refused(format!("the store has its {keys_max} keys"))
    }

    pub(crate) fn contended() -> Self {
        Self::unavailable("too many others write the same key")
    }

    pub(crate) fn no_number() -> Self {
        Self::refused("the value of this key is no whole number of 64 bits, written in decimal digits")
    }

    pub(crate) fn overflow() -> Self {
        Self::refused("the sum is no number of 64 bits")
    }
}

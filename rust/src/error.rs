//! What can be wrong with an input.

use std::path::PathBuf;

/// Every failure of the kernels. Its text says what is wrong; the caller adds what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to open or map the file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is truncated, foreign, or not what the caller says it is.
    #[error("{path}: {reason}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument has the wrong shape or forbidden values.
    #[error("{0}")]
    Invalid(String),
    /// The result has no room in memory.
    #[error("{what} takes {bytes} bytes, more than there is memory")]
    Memory {
        /// What was to be made.
        what: &'static str,
        /// Its size.
        bytes: u128,
    },
    /// The caller was interrupted and wants no result.
    #[error("interrupted")]
    Interrupted,
}

/// Result of a kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// An `Error::Invalid` with formatted text, as the `Err` of a result.
macro_rules! invalid {
    ($($text:tt)*) => { Err($crate::error::Error::Invalid(format!($($text)*))) };
}
pub(crate) use invalid;

//! What can go wrong on the wire, said so that an operator knows what to do next.

use std::path::PathBuf;

use eyot_bundle::digest::Digest;

use crate::problem::Problem;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection ended in the middle of an exchange.
    #[error("the connection to {url} broke off: {cause}")]
    Broken {
        /// The parent, or the URL that was asked.
        url: String,
        /// What the transport said.
        cause: String,
    },
    /// No connection could be made.
    #[error("cannot connect to {url}: {cause}")]
    Connect {
        /// The parent, or the URL that was asked.
        url: String,
        /// What failed, for each protocol that was tried.
        cause: String,
    },
    /// The bytes are not those that were named.
    #[error("blob {digest}: the bytes received have another digest; they were thrown away")]
    Digest {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// A file could not be written or read.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The other side's message is not of its kind.
    #[error("{url} sent what is no {what}: {cause}")]
    Malformed {
        /// The parent, or the URL that was asked.
        url: String,
        /// What was expected.
        what: &'static str,
        /// Why it is not.
        cause: String,
    },
    /// The other side refused.
    #[error("{url} refused with {status}{}", told(problem))]
    Refused {
        /// The parent, or the URL that was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said; empty when it said nothing that can be read.
        problem: Box<Problem>,
    },
    /// The settings are not usable.
    #[error("{0}")]
    Settings(String),
    /// The other side was silent for too long.
    #[error("{url} was silent for {seconds} s")]
    Silent {
        /// The parent, or the URL that was asked.
        url: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// More bytes than may come.
    #[error("{url} sent more than the {limit_bytes} bytes that are allowed")]
    TooLarge {
        /// The parent, or the URL that was asked.
        url: String,
        /// How many may come.
        limit_bytes: u64,
    },
}

impl Error {
    /// Whether another parent, or another try, may do better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Connect { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Digest { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => true,
            Self::Disk { .. } | Self::Settings(_) => false,
        }
    }

    /// The code of the problem document, where the other side sent one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } if !problem.code.is_empty() => Some(&problem.code),
            _ => None,
        }
    }
}

/// The part of a refusal's text that its problem document gives.
fn told(problem: &Problem) -> String {
    let next = match problem.code.as_str() {
        "unknown_key" => "; the operator adds a publisher's key with `eyot app add`",
        "unknown_token" => "; check `token` in node.toml against the fleet document",
        "clock" => "; set this machine's clock",
        _ => "",
    };
    match (problem.code.is_empty(), problem.detail.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!(": {}", problem.detail),
        (false, true) => format!(" ({}): {}{next}", problem.code, problem.title),
        (false, false) => format!(" ({}): {}{next}", problem.code, problem.detail),
    }
}

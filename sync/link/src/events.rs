//! What nodes ask of the origin so that a schedule of the fleet is run by one of them.

use eyot_bundle::name::Name;
use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::client::{Ask, Client};
use crate::error::Error;
use crate::path;

/// How long a turn is its holder's after each time it was asked for, in milliseconds.
pub const TURN_MS: u64 = 10_000;

/// `POST /v1/apps/{app}/lease`: a node's turn to run a schedule for one of its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnRequest {
    /// The schedule: 16 hexadecimal digits, the same for the same schedule in any release.
    pub schedule: String,
    /// The time it was due.
    pub planned: Timestamp,
    /// Which process of the node asks: an id that no other one has.
    pub process: String,
    /// What is asked.
    pub step: TurnStep,
}

/// What is asked of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnStep {
    /// To have it, or to go on having it.
    Claim,
    /// That it has ended.
    Done,
}

/// What that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    /// Not yet: another node's turn goes on, or the time has not come. Ask again in so many milliseconds.
    Later(u64),
    /// It was had: this time, or a later one, was run, or is being run.
    Past,
    /// It is the asker's for so many milliseconds; or it has ended, when that was asked.
    Yours(u64),
}

impl Client {
    /// Asks for a turn.
    pub async fn turn(&self, app: &Name, request: &TurnRequest) -> Result<Turn, Error> {
        self.ask(&Ask::json(Method::POST, path::lease(app.as_str()), request)?).await?.json().await
    }
}

//! Answers another process of this node, which does not have the file any more.

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};

use super::wire::{self, Answer, Asked};
use super::{Line, Place};
use crate::error::Error;
use crate::store::ANSWER_WITHIN;

/// What is answered at once; what is more waits on the line.
const AT_ONCE_MAX: usize = 256;

/// Answers what is asked, until the line ends.
pub(crate) async fn answer(place: Arc<Place>, line: Line) {
    let (mut read, write) = line.into_split();
    let write = Arc::new(Mutex::new(write));
    let at_once = Arc::new(Semaphore::new(AT_ONCE_MAX));
    loop {
        let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else { return };
        let Ok(asked) = wire::hear::<Asked>(&mut read).await else { return };
        let (place, write) = (Arc::clone(&place), Arc::clone(&write));
        tokio::spawn(async move {
            let _permit = permit;
            let (number, bound, ask) = asked.into_parts();
            let bound = Arc::new(bound);
            let said = tokio::time::timeout(ANSWER_WITHIN, place.ask(&bound, ask)).await;
            let answer = Answer::new(number, said.unwrap_or_else(|_| Err(Error::too_slow())));
            // A line that has ended is seen by the loop.
            let _ = wire::say(&mut *write.lock().await, &answer).await;
        });
    }
}

//! Looks over the shoulder of every exchange: the cloud's clock against ours, and how many calls the quota refused.
//! What an answer says never comes in.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::ota::{Answer, Api, NoAnswer, Request, wire};

use super::seen::{Skew, Traffic};

/// An [`Api`] and what it showed.
#[derive(Debug)]
pub struct Witness<A> {
    api: A,
    traffic: Mutex<Traffic>,
}

impl<A> Witness<A> {
    /// Watches an API.
    pub fn new(api: A) -> Self {
        Self { api, traffic: Mutex::default() }
    }

    /// What was seen by now.
    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Api> Api for Witness<A> {
    async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let sent = clock::wall();
        let outcome = self.api.exchange(request).await;
        let received = clock::wall();
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(answer) = &outcome {
            traffic.answered += 1;
            traffic.throttled += u32::from(wire::throttled(answer));
            let new = answer.date.map(|date| skew(date, sent, received));
            let better = |new: &Skew| traffic.skew.is_none_or(|old| new.give_or_take < old.give_or_take);
            traffic.skew = new.filter(better).or(traffic.skew);
        }
        outcome
    }
}

/// `Date` has whole seconds: the instant that it was written at lies in the second that begins there, and between our
/// sending and receiving.
fn skew(date: Timestamp, sent: Timestamp, received: Timestamp) -> Skew {
    let least = date.duration_since(received);
    let most = date.duration_since(sent) + SignedDuration::from_secs(1);
    Skew { ahead: (least + most) / 2, give_or_take: (most - least) / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_lies_within_what_is_said() {
        let at = |ms: i64| Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap();
        // The cloud is 90 s ahead, wrote its answer in the middle of 400 ms, and cut the milliseconds.
        for ms in [0, 300, 999] {
            let written = at(90_000 + ms + 200);
            let date = Timestamp::from_second(written.as_second()).unwrap();
            let skew = skew(date, at(ms), at(ms + 400));
            let error = (skew.ahead - SignedDuration::from_secs(90)).abs();
            assert!(error <= skew.give_or_take, "{ms}: {skew:?}");
            assert_eq!(skew.give_or_take, SignedDuration::from_millis(700));
        }
    }
}

//! Reading a job's state: how many tasks are in which status, and which ones (ota-api: section 6.2).
//!
//! No answer carries counters. A small job's tasks are counted on the one page that holds them; those of a larger one are
//! read status by status, and can disagree. What the counts mean for a rollout, and when to read them, never comes in.

use jiff::Timestamp;

use super::Api;
use super::calls::{CallContext, Pages, TASKS_PER_PAGE, list_tasks};
use super::id::JobId;
use super::outcome::{CallError, Read};
use super::task::{Task, TaskStatus};

/// How many tasks of a job are in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// CONFIRM.
    pub confirm: u64,
    /// QUEUED.
    pub queued: u64,
    /// NOTIFIED.
    pub notified: u64,
    /// IN_PROGRESS.
    pub in_progress: u64,
    /// SUCCEEDED.
    pub succeeded: u64,
    /// FAILED, whatever the reason.
    pub failed: u64,
    /// CANCELED.
    pub canceled: u64,
    /// All of them, counted last.
    pub total: u64,
    /// The clock of the `Utc…` fields at the first count: nothing counted is older.
    pub as_of: Option<Timestamp>,
}

impl Tally {
    /// Whether the counts make the total. If not, a task moved while they were read (or has a status that the documents
    /// don't know): hold, and count again.
    pub fn adds_up(&self) -> bool {
        let parts =
            [self.confirm, self.queued, self.notified, self.in_progress, self.succeeded, self.failed, self.canceled];
        parts.into_iter().try_fold(0_u64, u64::checked_add) == Some(self.total)
    }

    fn note(&mut self, status: &TaskStatus, count: u64) {
        match status {
            TaskStatus::Confirm => self.confirm = count,
            TaskStatus::Queued => self.queued = count,
            TaskStatus::Notified => self.notified = count,
            TaskStatus::InProgress => self.in_progress = count,
            TaskStatus::Succeeded => self.succeeded = count,
            TaskStatus::Failed => self.failed = count,
            TaskStatus::Canceled => self.canceled = count,
            TaskStatus::Other(_) => {}
        }
    }
}

/// A job's tasks, counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// How many are in each status.
    pub tally: Tally,
    /// All of them, where one page held them: they were counted at one instant.
    pub tasks: Option<Vec<Task>>,
}

/// Counts a job's tasks: one call where a page holds them all, else eight.
///
/// `expected` is how many there were last time: what is known not to fit a page is not read as one. Status by status,
/// ends are counted first and the total last, so that a task that moves on meanwhile is missing from the sum, or counted
/// in its earlier state: never as both, and never as more failed or succeeded than there were.
pub async fn count<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    expected: Option<u64>,
) -> Result<Counts, CallError> {
    if expected.is_none_or(|total| total <= TASKS_PER_PAGE) {
        let mut pages = Pages::new(TASKS_PER_PAGE, |task: &Task| task.task_id.clone());
        let read = list_tasks(api, ctx, job, None, 1, TASKS_PER_PAGE).await?;
        let (total, as_of) = (read.value.total, read.now);
        pages.take(read);
        if total <= TASKS_PER_PAGE
            && let Ok(Read { value: tasks, .. }) = pages.finish()
            && tasks.len() as u64 == total
        {
            let mut tally = Tally { total, as_of, ..Tally::default() };
            for status in TaskStatus::DOCUMENTED {
                tally.note(status, tasks.iter().filter(|task| task.status == *status).count() as u64);
            }
            return Ok(Counts { tally, tasks: Some(tasks) });
        }
    }
    Ok(Counts { tally: tally(api, ctx, job).await?, tasks: None })
}

/// Counts status by status.
async fn tally<A: Api>(api: &A, ctx: &CallContext, job: &JobId) -> Result<Tally, CallError> {
    let mut tally = Tally::default();
    for status in TaskStatus::DOCUMENTED {
        let read = list_tasks(api, ctx, job, Some(status), 1, 1).await?;
        tally.as_of = tally.as_of.or(read.now);
        tally.note(status, read.value.total);
    }
    tally.total = list_tasks(api, ctx, job, None, 1, 1).await?.value.total;
    Ok(tally)
}

/// Reads all tasks of one status, each once, up to the 100,000 that the cloud lets be reached. Tasks that enter or leave
/// the status meanwhile may be missing: compare with a [`Tally`] where that matters.
pub async fn tasks_in<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    status: &TaskStatus,
) -> Result<Read<Vec<Task>>, CallError> {
    let mut pages = Pages::new(TASKS_PER_PAGE, |task: &Task| task.task_id.clone());
    while let Some(number) = pages.wanted() {
        pages.take(list_tasks(api, ctx, job, Some(status), number, TASKS_PER_PAGE).await?);
    }
    pages.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::calls::tests::Script;
    use crate::ota::wire::tests::answer;
    use serde_json::{Value, json};

    fn page(total: u64, ids: impl IntoIterator<Item = u64>) -> Value {
        let tasks: Vec<_> = ids.into_iter().map(|n| json!({"TaskId": format!("t{n}"), "DeviceName": "d"})).collect();
        json!({"Success": true, "Total": total, "Data": {"SimpleOTATaskInfo": tasks}})
    }

    #[tokio::test]
    async fn a_page_that_holds_all_tasks_is_counted_by_itself() {
        let of = |n: u64, status: &str| json!({"TaskId": format!("t{n}"), "DeviceName": "d", "TaskStatus": status});
        let all = [of(1, "SUCCEEDED"), of(2, "FAILED"), of(3, "SUCCEEDED"), of(4, "CONFIRM"), of(5, "LATER")];
        let page = |tasks: &[Value], total: u64| json!({"Success": true, "Total": total, "Data": {"SimpleOTATaskInfo": tasks}});
        let now = "2026-01-01T00:00:01Z".parse().ok();
        let whole = crate::ota::Answer { now, ..answer(200, &page(&all, 5).to_string()) };
        let script = Script::new([Ok(whole)]);
        let counts = count(&script, &CallContext::default(), &"j".into(), None).await.unwrap();
        let expected = Tally { succeeded: 2, failed: 1, confirm: 1, total: 5, as_of: now, ..Tally::default() };
        assert_eq!((counts.tally, counts.tasks.map(|t| t.len()), script.calls()), (expected, Some(5), 1));
        assert!(!expected.adds_up(), "a status that nobody knows is not counted");
        assert_eq!(script.params(0), "CurrentPage=1 JobId=j PageSize=100");

        // A page with a task twice, or with fewer than the total, is no whole: they are counted status by status.
        for (tasks, total) in [([&all[..], &all[..1]].concat(), 6), (all.to_vec(), 6), (all.to_vec(), 101)] {
            let script = Script::json(std::iter::once(page(&tasks, total)).chain((0..8).map(|_| page(&[], 0))));
            let counts = count(&script, &CallContext::default(), &"j".into(), Some(100)).await.unwrap();
            assert_eq!((counts.tasks, script.calls()), (None, 9), "{total}");
        }
    }

    #[tokio::test]
    async fn ends_are_counted_first_and_the_total_last() {
        let counts = [50, 3, 2, 7, 11, 13, 17, 103];
        let mut seconds = 0;
        let script = Script::new(counts.map(|count| {
            seconds += 1;
            let now = format!("2026-01-01T00:00:{seconds:02}Z").parse().ok();
            Ok(crate::ota::Answer { now, ..answer(200, &page(count, [1]).to_string()) })
        }));
        let Counts { tally, tasks } = count(&script, &CallContext::default(), &"j".into(), Some(101)).await.unwrap();
        assert_eq!(tasks, None);
        let expected = Tally {
            succeeded: 50,
            failed: 3,
            canceled: 2,
            in_progress: 7,
            notified: 11,
            queued: 13,
            confirm: 17,
            total: 103,
            as_of: "2026-01-01T00:00:01Z".parse().ok(),
        };
        assert_eq!(tally, expected);
        assert!(tally.adds_up());
        assert!(!Tally { failed: 2, ..tally }.adds_up());
        assert!(!Tally { failed: u64::MAX, ..tally }.adds_up());
        assert_eq!(script.params(0), "CurrentPage=1 JobId=j PageSize=1 TaskStatus=SUCCEEDED");
        assert_eq!(script.params(6), "CurrentPage=1 JobId=j PageSize=1 TaskStatus=CONFIRM");
        assert_eq!(script.params(7), "CurrentPage=1 JobId=j PageSize=1");
    }

    #[tokio::test]
    async fn tasks_of_all_pages_come_once() {
        let script = Script::json([page(201, 0..100), page(201, 99..199), page(201, 199..201)]);
        let tasks = tasks_in(&script, &CallContext::default(), &"j".into(), &TaskStatus::Failed).await.unwrap();
        assert_eq!(tasks.value.len(), 201);
        assert_eq!(script.params(2), "CurrentPage=3 JobId=j PageSize=100 TaskStatus=FAILED");
    }

    #[tokio::test]
    async fn nothing_is_asked_beyond_the_hundred_thousandth() {
        let script = Script::json((0..1001).map(|n| page(200_000, n * 100..(n + 1) * 100)));
        let tasks = tasks_in(&script, &CallContext::default(), &"j".into(), &TaskStatus::Queued).await.unwrap();
        assert_eq!((tasks.value.len(), script.calls()), (100_000, 1000));
    }
}

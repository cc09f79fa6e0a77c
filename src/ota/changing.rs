//! Calls that change jobs that run (ota-api: section 6.9): ending a policy, running failed tasks again, new settings.
//!
//! Cancelling tasks stands with the other calls in `calls`. Whether to change anything never comes in.

use super::calls::{CallContext, ask};
use super::code::{self, Class};
use super::id::JobId;
use super::outcome::{CallError, Read};
use super::{Api, Operation};

/// Most tasks in one ReupgradeOTATask.
pub const TASKS_PER_CALL: usize = 10;

/// Ends a dynamic job's policy: no device is given a task any more; tasks that exist stay, and are cancelled by
/// [`super::calls::cancel_tasks`]. May be repeated: a policy that has ended counts as ended by this call.
pub async fn cancel_policy<A: Api>(api: &A, ctx: &CallContext, job: &JobId) -> Result<(), CallError> {
    let request = ctx.request(Operation::CancelOTAStrategyByJob, [("JobId", job.to_string())]);
    match ask(api, &request).await {
        Ok(_) => Ok(()),
        Err(error) if error.class == Class::Done => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs failed tasks of a job again: 1 to 10 ids, else an error of class `Terminal` without a call.
pub async fn run_again<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    tasks: &[String],
) -> Result<Read<()>, CallError> {
    if tasks.is_empty() {
        return Err(CallError::new(Class::Terminal, code::NULL_TASK_ID, "no task to run again"));
    }
    if tasks.len() > TASKS_PER_CALL {
        return Err(CallError::new(Class::Terminal, code::PARAMETER_SIZE_EXCEED_MAX, "at most 10 tasks a call"));
    }
    let mut request = ctx.request(Operation::ReupgradeOTATask, [("JobId", job.to_string())]);
    let ids = tasks.iter().zip(1_usize..);
    request.parameters.extend(ids.map(|(id, n)| (format!("TaskId.{n}"), id.clone())));
    ask(api, &request).await?.read(|_| Ok(()))
}

/// What only a dynamic job lets be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// `TimeoutInMinutes`, 1 to 1440, for devices that are added later; none: as it is.
    pub timeout_in_minutes: Option<u32>,
    /// `SrcVersionList.N`; empty: as they are.
    pub source_versions: Vec<String>,
}

/// New settings of a running upgrade job. What is not sent is cleared or refused by the cloud, so all of it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobChange {
    /// `TargetSelection` of the job: `ALL`, `SPECIFIC`, `GRAY` or `GROUP`.
    pub target_selection: String,
    /// `MaximumPerMinute`, 10 to 10,000; sent even when it stays as it is.
    pub maximum_per_minute: u32,
    /// All tags that the job shall have: those that are missing here are cleared.
    pub tags: Vec<(String, String)>,
    /// Of a dynamic job; none: the job is static.
    pub policy: Option<PolicyChange>,
}

/// Changes a running upgrade job.
///
/// # Errors
/// `InvalidMaximumPerMinute` or `InvalidTimeoutSetting` without a call if a value is out of its range.
pub async fn change_job<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    change: &JobChange,
) -> Result<Read<()>, CallError> {
    let refused = |code, why| Err(CallError::new(Class::Terminal, code, why));
    if !(10..=10_000).contains(&change.maximum_per_minute) {
        return refused("iot.firmware.InvalidMaximumPerMinute", "MaximumPerMinute must be 10 to 10000");
    }
    let own = [
        ("JobId", job.to_string()),
        ("UpgradeType", if change.policy.is_some() { "DYNAMIC" } else { "STATIC" }.to_owned()),
        ("TargetSelection", change.target_selection.clone()),
        ("MaximumPerMinute", change.maximum_per_minute.to_string()),
    ];
    let mut request = ctx.request(Operation::UpdateOTAJob, own);
    for ((key, value), n) in change.tags.iter().zip(1_usize..) {
        request.parameters.insert(format!("Tags.{n}.Key"), key.clone());
        request.parameters.insert(format!("Tags.{n}.Value"), value.clone());
    }
    if let Some(policy) = &change.policy {
        if let Some(timeout) = policy.timeout_in_minutes {
            if !(1..=1440).contains(&timeout) {
                return refused("iot.firmware.InvalidTimeoutSetting", "TimeoutInMinutes must be 1 to 1440");
            }
            request.parameters.insert("TimeoutInMinutes".to_owned(), timeout.to_string());
        }
        for (version, n) in policy.source_versions.iter().zip(1_usize..) {
            request.parameters.insert(format!("SrcVersionList.{n}"), version.clone());
        }
    }
    ask(api, &request).await?.read(|_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::calls::tests::Script;
    use serde_json::json;

    #[tokio::test]
    async fn a_policy_that_has_ended_counts_as_ended_now() {
        let refused = |code: &str| json!({"Success": false, "Code": code, "RequestId": "R"});
        let script = Script::json([
            json!({"Success": true}),
            refused(code::JOB_ALREADY_CANCELED),
            refused("iot.firmware.NotDynamicJob"),
        ]);
        let ctx = CallContext::default();
        cancel_policy(&script, &ctx, &"j".into()).await.unwrap();
        assert_eq!(script.params(0), "JobId=j");
        cancel_policy(&script, &ctx, &"j".into()).await.unwrap();
        let error = cancel_policy(&script, &ctx, &"j".into()).await.unwrap_err();
        assert_eq!((error.class, error.operation), (Class::Terminal, Some(Operation::CancelOTAStrategyByJob)));
    }

    #[tokio::test]
    async fn tasks_are_named_one_to_ten_at_a_time() {
        let script = Script::json([json!({"Success": true})]);
        let ctx = CallContext { instance_id: Some("iot-1".into()) };
        run_again(&script, &ctx, &"j".into(), &["a".into(), "b".into()]).await.unwrap();
        assert_eq!(script.params(0), "IotInstanceId=iot-1 JobId=j TaskId.1=a TaskId.2=b");
        for tasks in [vec![], vec!["t".to_owned(); 11]] {
            assert_eq!(run_again(&script, &ctx, &"j".into(), &tasks).await.unwrap_err().class, Class::Terminal);
        }
        assert_eq!(script.calls(), 1);
    }

    #[tokio::test]
    async fn a_change_says_all_that_shall_hold() {
        let script = Script::json([json!({"Success": true}), json!({"Success": true})]);
        let ctx = CallContext::default();
        let change = JobChange {
            target_selection: "GRAY".into(),
            maximum_per_minute: 500,
            tags: vec![("fota.id".into(), "x".into()), ("campaign".into(), "winter".into())],
            policy: None,
        };
        change_job(&script, &ctx, &"j".into(), &change).await.unwrap();
        let tags = "Tags.1.Key=fota.id Tags.1.Value=x Tags.2.Key=campaign Tags.2.Value=winter";
        assert_eq!(
            script.params(0),
            format!("JobId=j MaximumPerMinute=500 {tags} TargetSelection=GRAY UpgradeType=STATIC")
        );
        let policy = PolicyChange { timeout_in_minutes: Some(60), source_versions: vec!["1".into(), "2".into()] };
        let dynamic =
            JobChange { target_selection: "ALL".into(), tags: vec![], policy: Some(policy), ..change.clone() };
        change_job(&script, &ctx, &"j".into(), &dynamic).await.unwrap();
        assert_eq!(
            script.params(1),
            "JobId=j MaximumPerMinute=500 SrcVersionList.1=1 SrcVersionList.2=2 TargetSelection=ALL TimeoutInMinutes=60 \
             UpgradeType=DYNAMIC"
        );
        let slow = JobChange { maximum_per_minute: 9, ..change.clone() };
        let endless = PolicyChange { timeout_in_minutes: Some(1441), ..PolicyChange::default() };
        let endless = JobChange { policy: Some(endless), ..change };
        for wrong in [slow, endless] {
            assert_eq!(change_job(&script, &ctx, &"j".into(), &wrong).await.unwrap_err().class, Class::Terminal);
        }
        assert_eq!(script.calls(), 2);
    }
}

//! What the chart lets the operator do, asked of the API server with the operator's own token.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use super::harness::control_plane::SERVICE_ACCOUNT;
use super::shared;

/// What Kubernetes gives everybody: asking about oneself.
pub const EVERYBODYS: &[&str] = &["authorization.k8s.io", "authentication.k8s.io"];

/// A namespace with the chart's rights installed, and a client that has them.
async fn installed(purpose: &str) -> (String, Client) {
    let namespace = shared().namespace(purpose).unwrap();
    shared().install_rbac(&namespace).unwrap();
    let kubeconfig = shared().operator_kubeconfig(&namespace, SERVICE_ACCOUNT).unwrap();
    (namespace, client(&kubeconfig).await)
}

async fn client(kubeconfig: &Path) -> Client {
    shared().client(kubeconfig).await.unwrap()
}

/// What whoever asks may do in a namespace, as `verb resource.group`.
pub async fn granted(client: Client, namespace: &str) -> BTreeSet<String> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let review = Api::all(client).create(&PostParams::default(), &review).await.unwrap();
    let mut rights = BTreeSet::new();
    for rule in review.status.unwrap().resource_rules {
        assert_eq!(rule.resource_names, None, "{rule:?}");
        for group in rule.api_groups.unwrap() {
            if EVERYBODYS.contains(&group.as_str()) {
                continue;
            }
            for resource in rule.resources.as_deref().unwrap() {
                rights.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}.{group}")));
            }
        }
    }
    rights
}

#[tokio::test]
async fn the_operator_has_exactly_these_rights() {
    let (namespace, client) = installed("exact").await;
    let rights = granted(client, &namespace).await;
    let expected = [
        "create events.events.k8s.io",
        "create leases.coordination.k8s.io",
        "get configmaps.",
        "get firmwarerollouts.fota.dev",
        "get leases.coordination.k8s.io",
        "get otaaccounts.fota.dev",
        "get secrets.",
        "list firmwarerollouts.fota.dev",
        "list otaaccounts.fota.dev",
        "patch events.events.k8s.io",
        "patch firmwarerollouts.fota.dev",
        "patch firmwarerollouts/status.fota.dev",
        "patch otaaccounts.fota.dev",
        "patch otaaccounts/status.fota.dev",
        "update leases.coordination.k8s.io",
        "watch firmwarerollouts.fota.dev",
        "watch otaaccounts.fota.dev",
    ];
    assert_eq!(rights, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn the_operator_reads_a_secret_by_name_but_cannot_list_them() {
    let (namespace, client) = installed("secrets").await;
    shared()
        .kubectl_ok([
            "create",
            "secret",
            "generic",
            "key",
            "-n",
            &namespace,
            "--from-literal=accessKeyId=testAccessKeyId",
        ])
        .unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let secret = secrets.get("key").await.unwrap();
    assert_eq!(secret.data.unwrap()["accessKeyId"].0, b"testAccessKeyId");
    let error = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error:?}");
}

#[tokio::test]
async fn the_operator_cannot_delete_a_rollout_but_can_patch_it_in_any_namespace() {
    let (_, client) = installed("verbs").await;
    let elsewhere = shared().namespace("elsewhere").unwrap();
    let rollouts = |verb, allowed| ("fota.dev", "firmwarerollouts", verb, allowed);
    // Leases are its own namespace's only.
    let leases = |verb| ("coordination.k8s.io", "leases", verb, false);
    let rights = [
        rollouts("patch", true),
        rollouts("delete", false),
        rollouts("update", false),
        rollouts("create", false),
        leases("get"),
        leases("create"),
        leases("update"),
    ];
    for (group, resource, verb, allowed) in rights {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.into()),
                    resource: Some(resource.into()),
                    verb: Some(verb.into()),
                    namespace: Some(elsewhere.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let review = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
        assert_eq!(review.status.unwrap().allowed, allowed, "{verb} {resource}");
    }
}

#[tokio::test]
async fn a_service_account_that_is_not_the_operators_has_none_of_it() {
    let (namespace, _) = installed("other").await;
    shared().kubectl_ok(["create", "serviceaccount", "bystander", "-n", &namespace]).unwrap();
    let kubeconfig = shared().operator_kubeconfig(&namespace, "bystander").unwrap();
    let secrets: Api<Secret> = Api::namespaced(client(&kubeconfig).await, &namespace);
    let error = secrets.get("key").await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error:?}");
}

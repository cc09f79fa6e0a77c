//! The control plane itself: up, of the version that go.mod pins, and authenticating.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;

use super::harness::root;
use super::shared;

#[test]
fn both_servers_and_kubectl_are_of_the_pinned_version() {
    let go_mod = std::fs::read_to_string(root().join("tests/kube/go.mod")).unwrap();
    let pinned = go_mod
        .lines()
        .find_map(|line| line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    let text = shared().kubectl_ok(["version", "-o", "json"]).unwrap();
    let version: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], pinned);
    assert_eq!(version["clientVersion"]["gitVersion"], pinned);
    assert_eq!(version["serverVersion"]["minor"], pinned.split('.').nth(1).unwrap());
}

#[tokio::test]
async fn the_admin_client_sees_a_fresh_namespace_and_what_kubectl_applied() {
    let namespace = shared().namespace("admin").unwrap();
    let client = shared().admin_client().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert!(namespaces.get(&namespace).await.is_ok());

    let applied = shared()
        .apply_yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: note, namespace: {namespace}}}, data: {{a: b}}}}"
        ))
        .unwrap();
    assert_eq!(applied.trim(), "configmap/note created");
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    assert_eq!(maps.get("note").await.unwrap().data.unwrap()["a"], "b");
}

#[tokio::test]
async fn an_unknown_token_is_refused() {
    let kubeconfig = shared().kubeconfig_with_token("stranger", "default", "guessed").unwrap();
    let client = shared().client(&kubeconfig).await.unwrap();
    let error = Api::<Namespace>::all(client).get("default").await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 401), "{error:?}");
}

#[test]
fn a_manifest_that_is_refused_fails_with_the_reason() {
    let manifest = "{apiVersion: v1, kind: Namespace, metadata: {name: Not_A_Name}}";
    let error = shared().apply_yaml(manifest).unwrap_err().to_string();
    assert!(error.contains("kubectl apply -f -") && error.contains("RFC 1123"), "{error}");
}

#[test]
fn every_crd_file_is_served() {
    let crds = shared().install_crds().unwrap();
    for crd in &crds {
        let resource = crd.rsplit_once('/').unwrap().1;
        shared().kubectl_ok(["get", resource, "--all-namespaces"]).unwrap();
    }
    let files = std::fs::read_dir(root().join("crds")).map_or(0, Iterator::count);
    assert!(crds.len() >= files, "{crds:?}");
}

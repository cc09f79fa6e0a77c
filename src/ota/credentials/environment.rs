//! The operator's own identity, as its pod's environment gives it: keys, or a role with an OIDC token (ota-api: section
//! 11, rows 1 and 2).
//!
//! Here belongs reading the variables. Who may use what they say never comes in. Profile files, the metadata of a node and
//! a credentials URI are left out: docs/credentials.md says why.

use std::path::PathBuf;

use secrecy::SecretString;

use super::sts::Role;
use super::{Credentials, ID_KEY, SECRET_KEY, TOKEN_KEY};

/// Where the cloud's pod identity webhook mounts the token.
const TOKEN_FILE: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token";
/// How long keys are lent, in seconds, unless something else is asked for.
pub const LENT_SECONDS: u32 = 3600;

/// What the environment gives.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID` and `…_SECRET`, if both are set.
    pub keys: Option<Credentials>,
    /// `ALIBABA_CLOUD_ROLE_ARN` and `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`, if both are set.
    pub role: Option<Role>,
    /// `ALIBABA_CLOUD_OIDC_TOKEN_FILE`, else where the webhook mounts it.
    pub token_file: PathBuf,
    /// The host that lends keys, by `ALIBABA_CLOUD_STS_REGION` and `ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED`.
    pub sts: String,
}

impl Environment {
    /// Reads variables by name. Empty ones count as unset.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let keys = set(ID_KEY).zip(set(SECRET_KEY)).map(|(id, secret)| {
            Credentials::new(id, SecretString::from(secret), set(TOKEN_KEY).map(SecretString::from))
        });
        let arns = set("ALIBABA_CLOUD_ROLE_ARN").zip(set("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"));
        let session = set("ALIBABA_CLOUD_ROLE_SESSION_NAME").unwrap_or_else(|| "fota".to_owned());
        let role = arns.map(|(arn, provider_arn)| Role { arn, provider_arn, session, seconds: LENT_SECONDS });
        let vpc = set("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED").is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        let sts = match set("ALIBABA_CLOUD_STS_REGION") {
            Some(region) => format!("sts{}.{region}.aliyuncs.com", if vpc { "-vpc" } else { "" }),
            None => "sts.aliyuncs.com".to_owned(),
        };
        let token_file = set("ALIBABA_CLOUD_OIDC_TOKEN_FILE").unwrap_or_else(|| TOKEN_FILE.to_owned()).into();
        Self { keys, role, token_file, sts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn half_of_anything_is_nothing() {
        let empty = read(&[]);
        assert!(empty.keys.is_none() && empty.role.is_none());
        assert_eq!((empty.sts.as_str(), empty.token_file.to_str()), ("sts.aliyuncs.com", Some(TOKEN_FILE)));
        assert!(read(&[(ID_KEY, "id"), (SECRET_KEY, "")]).keys.is_none());
        assert!(read(&[("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r")]).role.is_none());
        let keys = read(&[(ID_KEY, "id"), (SECRET_KEY, "s"), (TOKEN_KEY, "t")]).keys.unwrap();
        assert!(keys.id() == "id" && keys.token().is_some());
    }

    #[test]
    fn the_hosts_of_the_recorded_exchanges() {
        let region = ("ALIBABA_CLOUD_STS_REGION", "cn-shanghai");
        assert_eq!(read(&[region]).sts, "sts.cn-shanghai.aliyuncs.com");
        let vpc = ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true");
        assert_eq!(read(&[region, vpc]).sts, "sts-vpc.cn-shanghai.aliyuncs.com");
        let arns = [("ALIBABA_CLOUD_ROLE_ARN", "r"), ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p")];
        let role = read(&arns).role.unwrap();
        assert_eq!((role.session.as_str(), role.seconds), ("fota", 3600));
    }
}

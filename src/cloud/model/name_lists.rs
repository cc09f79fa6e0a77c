//! GenerateDeviceNameListURL and the object storage that it leads to: files of device names for DnListFileUrl
//! (ota-api: section 6.8b).
//!
//! Here belong the upload form, its limits, and what becomes of files that are not used. All times are wall times: a
//! caller has its minute whatever the fleet's clock does.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{Done, Fields, Format, Refusal, utc};
use super::world::World;

/// How long a form may be posted, and how long a file may be used.
const POST_MS: i64 = 60_000;
const USE_MS: i64 = 60 * 60_000;
const BYTES_MAX: usize = 5 * 1024 * 1024;
const NAMES_MAX: usize = 10_000;
/// The path under which the object storage is reached.
pub const STORAGE_PATH: &str = "/_oss";
const STORAGE_KEY: &str = "STS.SimulatedStorage";

/// A form as it was posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Every field before the file.
    pub fields: BTreeMap<String, String>,
    /// The file; absent when there was none.
    pub file: Option<Vec<u8>>,
}

/// What the object storage answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The HTTP status.
    pub http_status: u16,
    /// An XML document; empty on success.
    pub body: String,
}

/// All forms that were handed out.
#[derive(Debug, Default)]
pub(super) struct NameLists(BTreeMap<String, List>);

#[derive(Debug)]
struct List {
    policy: String,
    signature: String,
    file_url: String,
    /// When the form was made, by the wall clock.
    created: i64,
    names: Option<Vec<String>>,
}

impl NameLists {
    /// The names of an uploaded file.
    pub(super) fn uploaded(&self, url: &str, wall: i64) -> Result<&[String], Refusal> {
        let list = self.0.values().find(|list| list.file_url == url && wall - list.created <= USE_MS);
        let names = list.and_then(|list| list.names.as_deref()).ok_or_else(|| Refusal::format("DnListFileUrl"))?;
        if names.is_empty() {
            return Err(Refusal::firmware("NullTargetDeviceNames", "The file holds no device names."));
        }
        if names.len() > NAMES_MAX {
            let message = format!("At most {NAMES_MAX} device names are allowed in a file.");
            return Err(Refusal::firmware("ParameterSizeExceedMax", message));
        }
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            return Err(Refusal::format("DnListFileUrl"));
        }
        Ok(names)
    }

    /// Takes a posted form.
    pub(super) fn post(&mut self, form: Form, wall: i64) -> Result<(), (u16, &'static str, &'static str)> {
        let field = |name: &str| {
            // As the storage does, whatever the case.
            let mut fields = form.fields.iter();
            fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.as_str())
        };
        let denied = |why| (403, "AccessDenied", why);
        let list = self.0.get_mut(field("key")).ok_or(denied("The policy does not allow this key."))?;
        if field("OSSAccessKeyId") != STORAGE_KEY {
            return Err((
                403,
                "InvalidAccessKeyId",
                "The OSS Access Key Id you provided does not exist in our records.",
            ));
        }
        if field("policy") != list.policy || field("Signature") != list.signature {
            let why = "The request signature we calculated does not match the signature you provided.";
            return Err((403, "SignatureDoesNotMatch", why));
        }
        if wall - list.created > POST_MS {
            return Err(denied("Invalid according to Policy: Policy expired."));
        }
        let file = form.file.ok_or((400, "IncorrectNumberOfFilesInPOSTRequest", "POST requires exactly one file."))?;
        if file.len() > BYTES_MAX {
            return Err((400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."));
        }
        let text = String::from_utf8_lossy(&file);
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
        list.names = Some(lines.map(|line| line.trim_end_matches(',').to_owned()).collect());
        Ok(())
    }
}

impl World {
    /// Hands out a form, and says by which key.
    fn new_form(&mut self, host: &str, wall: i64) -> String {
        // Files that can no longer be used are removed.
        self.name_lists.0.retain(|_, list| wall - list.created <= USE_MS);
        let key = format!("device_name_list/{}.csv", self.ids.text(24));
        let conditions = json!([["eq", "$key", key], ["content-length-range", 0, BYTES_MAX]]);
        let policy = json!({"expiration": utc(wall + POST_MS), "conditions": conditions}).to_string();
        let (policy, signature) = (STANDARD.encode(policy), STANDARD.encode(self.ids.text(20)));
        let storage = format!("http://{host}{STORAGE_PATH}");
        let file_url = format!("{storage}/{key}");
        self.name_lists.0.insert(key.clone(), List { policy, signature, file_url, created: wall, names: None });
        key
    }

    /// GenerateDeviceNameListURL.
    pub(super) fn generate_name_list(&mut self, host: &str, wall: i64) -> Done {
        let key = self.new_form(host, wall);
        let text = |of: fn(&List) -> &str| self.name_lists.0.get(&key).map(of).unwrap_or_default().to_owned();
        let data = [
            ("Host", format!("http://{host}{STORAGE_PATH}").into()),
            ("ObjectStorage", "OSS".into()),
            ("AccessKeyId", STORAGE_KEY.into()),
            ("Signature", text(|list| &list.signature).into()),
            ("Policy", text(|list| &list.policy).into()),
            ("FileUrl", text(|list| &list.file_url).into()),
            ("UtcCreate", utc(wall)),
            ("Key", key.into()),
        ];
        Done::object("Data", Fields::from_iter(data.map(|(name, value)| (name.to_owned(), value))))
    }

    /// A file of these names, as if a form had been asked for and posted.
    pub(super) fn list_file(&mut self, names: &[String], wall: i64) -> String {
        let key = self.new_form("", wall);
        self.name_lists.0.get_mut(&key).map_or_else(String::new, |list| {
            list.names = Some(names.to_vec());
            list.file_url.clone()
        })
    }

    /// PostObject of the object storage.
    pub(super) fn post_object(&mut self, form: Form, wall: i64, request_id: &str) -> Stored {
        let wanted = form.fields.get("success_action_status").map(String::as_str);
        let success = match wanted {
            Some("200") => 200,
            Some("201") => 201,
            _ => 204,
        };
        match self.name_lists.post(form, wall) {
            Ok(()) => Stored { http_status: success, body: String::new() },
            Err((status, code, message)) => {
                let refusal = Refusal::gateway(status, code, message);
                Stored { http_status: status, body: refusal.body(request_id, "", Format::Xml) }
            }
        }
    }
}

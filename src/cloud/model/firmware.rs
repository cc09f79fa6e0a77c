//! The operations on packages: QueryOTAFirmware, ListOTAFirmware, CreateOTAFirmware, DeleteOTAFirmware (ota-api: sections
//! 6.5, 6.6, 6.8).
//!
//! Here belongs what a package looks like and what makes one. Verifying and rolling out belong to `create`.

use serde_json::{Value, json};

use super::answer::{Done, Fields, Refusal, utc};
use super::parameters::Given;
use super::query::Page;
use super::targets::no_firmware;
use super::world::{Notes, Package, World};
use crate::cloud::fleet::{File, Firmware};

const FIRMWARE_PAGE_MAX: usize = 100;
const FILES_MAX: usize = 20;
const NAME_MAX: usize = 40;
const FILE_NAME_MAX: usize = 32;
const VERSION_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 100;
const UDI_MAX: usize = 4096;
/// Update packages of an account.
const PACKAGES_MAX: usize = 500;
const SIGN: &str = "93230c3bde425a9d7984a594ac550000";

impl World {
    /// QueryOTAFirmware.
    pub(super) fn query_firmware(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let number = self.find_package(given.text("FirmwareId"))?;
        let package = self.package(number).ok_or_else(no_firmware)?;
        let mut info = package_view(package);
        let mut put = |name: &str, value: Value| info.insert(name.to_owned(), value);
        put("VerifyProgress", self.verify_progress(package).into());
        put("Udi", package.notes.udi.as_deref().unwrap_or("{}").into());
        let url = |name: &str| format!("https://ota.simulated.invalid/{}/{name}", package.traits.id);
        if package.traits.files.is_empty() {
            put("FirmwareUrl", package.notes.url.clone().unwrap_or_else(|| url("image.bin")).into());
        } else {
            let file = |f: &File| json!({"Name": f.name, "Size": f.size, "Url": url(&f.name), "SignValue": SIGN, "FileMd5": SIGN});
            put("MultiFiles", package.traits.files.iter().map(file).collect());
        }
        Ok(Done::object("FirmwareInfo", info))
    }

    /// ListOTAFirmware.
    pub(super) fn list_firmware(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let page = Page::of(given, FIRMWARE_PAGE_MAX)?;
        let matches =
            |name: &str, value: &str| given.get(name).is_none_or(|wanted| wanted.is_empty() || wanted == value);
        let all: Vec<_> = self
            .existing()
            .filter(|p| matches("ProductKey", &p.traits.product_key) && matches("DestVersion", &p.traits.version))
            .collect();
        let entries = page.of_all(&all).map(|p| package_view(p).into()).collect();
        Ok(page.answer(all.len(), "FirmwareInfo", "SimpleFirmwareInfo", entries, &self.switches))
    }

    /// CreateOTAFirmware.
    pub(super) fn create_firmware(&mut self, given: &Given<'_>) -> Result<Done, Refusal> {
        let (traits, notes) = self.described(given)?;
        self.wanted_product(given)?;
        if self.existing().any(|p| package_name(p) == given.text("FirmwareName")) {
            return Err(Refusal::firmware("AlreadyExistedFirmwareName", "A firmware has this name."));
        }
        let same = |other: &Firmware| {
            (&other.product_key, &other.module, &other.version)
                == (&traits.product_key, &traits.module, &traits.version)
        };
        if self.existing().any(|p| same(&p.traits)) {
            let message = "The product's module has a firmware of this version.";
            return Err(Refusal::firmware("AlreadyExistedFirmwareVersion", message));
        }
        if self.existing().count() >= PACKAGES_MAX {
            return Err(Refusal::firmware("ParameterSizeExceedMax", "An account has at most 500 firmware."));
        }
        let id = format!("{}0301{:02}", self.ids.text(20), self.packages.len() % 100);
        let data = [("FirmwareId", id.as_str().into()), ("UtcCreate", utc(self.now))];
        let data = Fields::from_iter(data.map(|(name, value)| (name.to_owned(), value)));
        self.add_package(Firmware { id, ..traits }, notes);
        Ok(Done::object("Data", data))
    }

    /// What CreateOTAFirmware describes, without an id; refused where the description makes no sense.
    fn described(&self, given: &Given<'_>) -> Result<(Firmware, Notes), Refusal> {
        let text = |name: &str, most: usize| {
            let value = given.text(name);
            if value.chars().count() > most { Err(Refusal::format(name)) } else { Ok(value.to_owned()) }
        };
        let filled = |name: &str, most: usize| match text(name, most) {
            Ok(value) if value.is_empty() => Err(Refusal::format(name)),
            other => other,
        };
        let version = |name: &str| {
            let value = filled(name, VERSION_MAX)?;
            let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if plain { Ok(value) } else { Err(Refusal::format(name)) }
        };
        let (name, dest) = (filled("FirmwareName", NAME_MAX)?, version("DestVersion")?);
        let differential = match given.text("Type") {
            "" | "0" => false,
            "1" => true,
            _ => return Err(Refusal::format("Type")),
        };
        let src_version = match (differential, given.text("SrcVersion")) {
            (false, _) => None,
            (true, "") => {
                return Err(Refusal::firmware("SrcVersionIsMandatory", "A differential firmware needs SrcVersion."));
            }
            (true, same) if same == dest => {
                return Err(Refusal::firmware("SrcDestVersionMatched", "SrcVersion is DestVersion."));
            }
            (true, _) => Some(version("SrcVersion")?),
        };
        let files = files(given)?;
        let size = given.integer("FirmwareSize").map_err(|()| Refusal::format("FirmwareSize"))?;
        let size = size.map_or(Ok(900), u64::try_from).map_err(|_| Refusal::format("FirmwareSize"))?;
        let optional = |name: &str| Some(given.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
        let url = optional("FirmwareUrl");
        if files.is_empty() == url.is_none() {
            return Err(Refusal::firmware("InvalidFirmware", "Give either FirmwareUrl or MultiFiles."));
        }
        let notes = Notes {
            description: text("FirmwareDesc", DESCRIPTION_MAX)?,
            sign_method: optional("SignMethod"),
            sign: optional("FirmwareSign"),
            url,
            udi: Some(text("Udi", UDI_MAX)?).filter(|udi| !udi.is_empty()),
        };
        let traits = Firmware {
            id: String::new(),
            product_key: given.text("ProductKey").to_owned(),
            version: dest,
            module: optional("ModuleName").unwrap_or_else(|| "default".to_owned()),
            need_to_verify: given.boolean("NeedToVerify")?.unwrap_or(true),
            failure_rate: None,
            silent_rate: None,
            src_version,
            name: Some(name),
            size: if files.is_empty() { size } else { files.iter().map(|file| file.size).sum() },
            files,
        };
        Ok((traits, notes))
    }

    /// DeleteOTAFirmware. A package is kept while a job of it runs.
    pub(super) fn delete_firmware(&mut self, given: &Given<'_>) -> Result<Done, Refusal> {
        let id = given.text("FirmwareId");
        let number = self.find_package(id)?;
        let mut jobs = self.package(number).ok_or_else(no_firmware)?.jobs.iter().filter_map(|job| self.job(*job));
        if jobs.any(|job| !job.status.ended()) {
            let message = "A job of the firmware is not finished.";
            return Err(Refusal::firmware("IncorrectDeviceUpgradeJobStatus", message));
        }
        self.package_ids.remove(id);
        Ok(Done::nothing())
    }

    /// The packages that are not deleted, oldest first.
    fn existing(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|p| self.package_ids.contains_key(&p.traits.id))
    }
}

/// MultiFiles.N.
fn files(given: &Given<'_>) -> Result<Vec<File>, Refusal> {
    let (names, sizes) = (given.fields("MultiFiles", "Name")?, given.fields("MultiFiles", "Size")?);
    let urls = given.fields("MultiFiles", "Url")?;
    if names.len() > FILES_MAX {
        return Err(Refusal::firmware("ParameterSizeExceedMax", "At most 20 files are allowed."));
    }
    if names.len() != sizes.len() || names.len() != urls.len() {
        return Err(Refusal::format("MultiFiles"));
    }
    let file = |(name, size): (&str, &str)| {
        let size = size.parse().ok().filter(|_| (1..=FILE_NAME_MAX).contains(&name.chars().count()));
        size.map(|size| File { name: name.to_owned(), size }).ok_or_else(|| Refusal::format("MultiFiles"))
    };
    names.into_iter().zip(sizes).map(file).collect()
}

/// `FirmwareName`.
pub(super) fn package_name(package: &Package) -> String {
    let traits = &package.traits;
    traits.name.clone().unwrap_or_else(|| format!("{}-{}", traits.module, traits.version))
}

/// A package as ListOTAFirmware shows it.
fn package_view(package: &Package) -> Fields {
    let (traits, notes) = (&package.traits, &package.notes);
    let mut view = Fields::from_iter([
        ("FirmwareId".to_owned(), traits.id.as_str().into()),
        ("FirmwareName".to_owned(), package_name(package).into()),
        ("FirmwareDesc".to_owned(), notes.description.as_str().into()),
        ("FirmwareSign".to_owned(), notes.sign.as_deref().unwrap_or(SIGN).into()),
        ("SignMethod".to_owned(), notes.sign_method.as_deref().unwrap_or("Md5").into()),
        ("FirmwareSize".to_owned(), traits.size.into()),
        ("DestVersion".to_owned(), traits.version.as_str().into()),
        ("ProductKey".to_owned(), traits.product_key.as_str().into()),
        ("ProductName".to_owned(), traits.product_key.as_str().into()),
        ("ModuleName".to_owned(), traits.module.as_str().into()),
        ("Type".to_owned(), i32::from(traits.src_version.is_some()).into()),
        ("Status".to_owned(), package.status.number().into()),
        ("UtcCreate".to_owned(), utc(package.created)),
        ("UtcModified".to_owned(), utc(package.modified)),
    ]);
    if let Some(version) = &traits.src_version {
        view.insert("SrcVersion".to_owned(), version.as_str().into());
    }
    view
}

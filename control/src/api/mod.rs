//! What crosses the control socket, for both of its sides: the request and answer of every route. All of it is JSON; a
//! refusal is a [`Refusal`] with status 400, 404, 409 or 503. Who asks stands in the header [`ACTOR_HEADER`].

mod commands;
mod dkim;
mod model;
mod queries;
mod settings;

use serde::{Deserialize, Serialize};

pub use commands::{
    CommandOutcome, LaneMoveRequest, LockRequest, QuarantineRequest, QuarantineSelect, QueueRequest,
    RerouteRequest, UnlockRequest,
};
pub use dkim::{DkimGenerate, DkimImport, DkimKeyInfo, DkimKeys, DkimRemove, DnsRecord};
pub use model::{ModelAnswer, ModelVersion, RollbackRequest};
pub use queries::{
    BackupAnswer, Coverage, DirectoryRequest, ExportAnswer, GroupLag, HeldAnswer, IdentitiesAnswer,
    QuarantineAnswer, QuarantineDetails, QueueAnswer, QueueTotal, StatusAnswer, ViewStatus,
};
pub use settings::{
    ApplyAnswer, ApplyRequest, ChangeKind, ChangesAnswer, DiffEntry, FieldChange, KeyFile, PlanAnswer,
    SettingRow, SettingsAnswer, SettingsFile,
};

/// Names the person or program that asks, for the audit trail: `root@host (cli)`.
pub const ACTOR_HEADER: &str = "x-mailweir-actor";

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
    /// What to do about it.
    pub fix: String,
    /// The mistakes of a settings file, one by one; `error` has them all as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<crate::settings_file::Problem>,
}

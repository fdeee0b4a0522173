//! Settings that administrators change while Mailweir runs: the records of `settings`, and the view folded from them.

mod record;
mod stored;
mod user;
mod view;

pub use record::{
    Change, DkimAlgorithm, DkimKey, DomainSettings, EgressPool, EgressSource, OutgoingUser, Setting,
    StaticRoute, UserAuth, WeightedSource,
};
pub use user::{
    AutomaticLock, CheckMode, Effective, HeldAction, IdentityRule, Limits, LockPolicy, Occurrence,
    QuarantineResponse, SpamAction, UserSettings,
};
pub use view::SettingsView;

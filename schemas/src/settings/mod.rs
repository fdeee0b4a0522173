//! Settings that administrators change while Mailweir runs: the records of `settings`, and the view folded from them.

mod record;
mod signing;
mod stored;
mod user;
mod view;

pub use record::{
    Change, DkimAlgorithm, DkimKey, DomainSettings, EgressPool, EgressSource, OutgoingUser, Setting,
    StaticRoute, UserAuth, WeightedSource,
};
pub use signing::dkim_keys_for;
pub use user::{
    AutomaticLock, CheckMode, Effective, HeldAction, IdentityRule, Limits, LockPolicy, Occurrence,
    QuarantineResponse, SpamAction, UserSettings,
};
pub use view::SettingsView;

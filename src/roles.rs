//! What one process does: every role, or some of them.

use std::collections::BTreeSet;
use std::str::FromStr;

/// A part of the pipeline that can run in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Ingress,
    Scorer,
    Delivery,
    Reporter,
    Control,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Ingress, Role::Scorer, Role::Delivery, Role::Reporter, Role::Control];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingress => "ingress",
            Role::Scorer => "scorer",
            Role::Delivery => "delivery",
            Role::Reporter => "reporter",
            Role::Control => "control",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Role::ALL.map(Role::name).join(", ");
            format!("`{text}` is no role; the roles are {names}")
        })
    }
}

/// The roles of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    #[must_use]
    pub fn all() -> Self {
        Roles(Role::ALL.into())
    }

    /// These roles; none named means all.
    #[must_use]
    pub fn only(roles: &[Role]) -> Self {
        if roles.is_empty() { Roles::all() } else { Roles(roles.iter().copied().collect()) }
    }

    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_named_means_all() {
        assert!(Roles::only(&[]).are_all());
        let some = Roles::only(&[Role::Scorer, Role::Delivery]);
        assert!(some.has(Role::Scorer) && !some.has(Role::Ingress) && !some.are_all());
    }

    #[test]
    fn a_role_is_known_by_its_name() {
        assert_eq!("delivery".parse(), Ok(Role::Delivery));
        assert!("deliver".parse::<Role>().is_err_and(|error| error.contains("delivery")));
    }
}

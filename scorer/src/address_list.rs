//! Allow and block lists: mailboxes, and domains with their subdomains.

use std::collections::HashSet;

use schemas::{Domain, Mailbox};

/// Entries that can be asked in constant time, however many there are.
#[derive(Clone, Debug, Default)]
pub struct AddressList {
    mailboxes: HashSet<String>,
    domains: HashSet<String>,
}

impl AddressList {
    /// Entries that are neither mailbox nor domain match nothing. A leading `@` or `*@` or `*.` before a domain is
    /// what people write for "everybody there".
    #[must_use]
    pub fn of(entries: &[String]) -> Self {
        let mut list = AddressList::default();
        for entry in entries {
            let entry = entry.trim();
            let domain = ["*@", "@", "*.", "."].iter().find_map(|p| entry.strip_prefix(p)).unwrap_or(entry);
            if let Ok(domain) = Domain::parse(domain) {
                list.domains.insert(domain.as_str().to_owned());
            } else if let Ok(mailbox) = Mailbox::parse(entry) {
                list.mailboxes.insert(name(&mailbox));
            }
        }
        list
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mailboxes.is_empty() && self.domains.is_empty()
    }

    #[must_use]
    pub fn contains(&self, mailbox: &Mailbox) -> bool {
        (!self.mailboxes.is_empty() && self.mailboxes.contains(&name(mailbox)))
            || self.contains_domain(mailbox.domain())
    }

    /// `true` for a domain of the list and for subdomains of one.
    #[must_use]
    pub fn contains_domain(&self, domain: &Domain) -> bool {
        if self.domains.is_empty() {
            return false;
        }
        let mut rest = domain.as_str();
        loop {
            if self.domains.contains(rest) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return false,
            }
        }
    }
}

fn name(mailbox: &Mailbox) -> String {
    format!("{}@{}", mailbox.local_part().to_lowercase(), mailbox.domain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_covers_its_subdomains_and_a_mailbox_itself() {
        let list = AddressList::of(
            &["Bad.example", "*@other.example", "one@good.example", "nonsense!", ""].map(str::to_owned),
        );
        let has = |text: &str| list.contains(&Mailbox::parse(text).unwrap());
        assert!(has("x@bad.example") && has("x@a.b.bad.example") && has("ONE@good.example"));
        assert!(has("x@other.example"));
        assert!(!has("x@notbad.example") && !has("two@good.example") && !has("x@example"));
        assert!(AddressList::of(&[]).is_empty());
    }
}

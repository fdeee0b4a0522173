//! What the answers mean, and what to tell a person who can change it.

use std::net::IpAddr;

use mail_auth::dmarc::Policy;
use mail_auth::{DmarcOutput, DmarcResult, SpfResult};
use schemas::Domain;
use schemas::verdict::Symbol;

use super::Authentication;
use super::key::LostKey;
use crate::evidence;

/// Weights: a customer whose DNS is wrong is no spammer. One who writes as a domain whose owner wants such mail refused
/// may be.
const DMARC_REJECT: f32 = 0.2;
const DMARC_QUARANTINE: f32 = 0.1;
const DMARC_NONE: f32 = 0.05;
const SPF_NOT_US: f32 = 0.05;
/// Of our addresses in evidence.
const MAX_SHOWN: usize = 3;

/// How a From domain stands with this relay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    pub spf: Spf,
    pub dmarc: Dmarc,
    /// With a key of ours, aligned, whose record is in DNS.
    pub is_signed: bool,
    /// Of our keys, where receivers find none.
    pub lost_key: Option<LostKey>,
}

impl Standing {
    pub(super) fn unknown() -> Self {
        Standing {
            spf: Spf { domain: String::new(), results: Vec::new() },
            dmarc: Dmarc::Unknown,
            is_signed: false,
            lost_key: None,
        }
    }

    /// `is_signed`: whether the message brings along a valid aligned signature, where that is known.
    pub(super) fn authentication(&self, is_signed: Option<bool>) -> Option<Authentication> {
        let has_dmarc = match self.dmarc {
            Dmarc::Unknown => return None,
            Dmarc::None => false,
            Dmarc::Passes | Dmarc::Fails(_) => true,
        };
        Some(Authentication { has_dmarc, has_dkim: if self.is_signed { Some(true) } else { is_signed } })
    }
}

/// What SPF says of our addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spf {
    /// Whose record it is.
    pub domain: String,
    pub results: Vec<(IpAddr, SpfResult)>,
}

/// Whether DMARC is satisfied, signatures that a message brings along left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dmarc {
    /// There is no record.
    None,
    Passes,
    /// With the policy that is asked for.
    Fails(Policy),
    /// DNS does not say.
    Unknown,
}

impl Spf {
    /// Mail that passes from one of our addresses is not wrong; from the others it may go wrong.
    pub(super) fn best(&self) -> Option<SpfResult> {
        let has = |wanted: SpfResult| self.results.iter().any(|(_, result)| *result == wanted);
        [SpfResult::Pass, SpfResult::TempError]
            .into_iter()
            .find(|wanted| has(*wanted))
            .or_else(|| self.results.first().map(|(_, result)| *result))
    }

    fn allowed(&self) -> usize {
        self.results.iter().filter(|(_, result)| *result == SpfResult::Pass).count()
    }

    fn not_allowed(&self) -> String {
        let not = self.results.iter().filter(|(_, result)| *result != SpfResult::Pass);
        let shown: Vec<String> = not.map(|(ip, _)| ip.to_string()).collect();
        match shown.len().checked_sub(MAX_SHOWN) {
            Some(more) if more > 0 => format!("{} and {more} more", shown[..MAX_SHOWN].join(", ")),
            _ => shown.join(", "),
        }
    }
}

/// What a receiver makes of it.
pub(super) fn dmarc(output: &DmarcOutput) -> Dmarc {
    let results = [output.spf_result(), output.dkim_result()];
    if results.contains(&&DmarcResult::Pass) {
        Dmarc::Passes
    } else if results.iter().any(|result| matches!(result, DmarcResult::TempError(_))) {
        Dmarc::Unknown
    } else if output.dmarc_record().is_none() {
        Dmarc::None
    } else {
        Dmarc::Fails(output.policy())
    }
}

/// For a message that fails DMARC, without a valid signature of its own.
pub(super) fn dmarc_symbol(from: &Domain, policy: Policy, standing: &Standing) -> Symbol {
    let (weight, policy) = match policy {
        Policy::Reject => (DMARC_REJECT, "reject"),
        Policy::Quarantine => (DMARC_QUARANTINE, "quarantine"),
        Policy::None | Policy::Unspecified => (DMARC_NONE, "none"),
    };
    let spf = &standing.spf;
    let spf = match spf.best() {
        Some(SpfResult::Pass) => format!("SPF passes for {}, which is not aligned", spf.domain),
        Some(SpfResult::None) | None => format!("{} has no SPF record", spf.domain),
        Some(_) => format!("SPF of {} does not allow {}", spf.domain, spf.not_allowed()),
    };
    let fix = match &standing.lost_key {
        Some(LostKey { name, is_another: false }) => {
            format!("{name} is not in DNS: publish the record of the DKIM key")
        }
        Some(LostKey { name, is_another: true }) => {
            format!("{name} in DNS is not of the DKIM key that signs here: publish its record")
        }
        None => format!(
            "make a DKIM key of {from} here and publish its record, or send with a reverse-path of {from} whose SPF record \
             allows our addresses"
        ),
    };
    let evidence =
        format!("{from} asks for p={policy}: {spf}, and there is no valid aligned DKIM signature; {fix}");
    evidence::symbol("DMARC_FAIL", weight, &evidence)
}

/// For a reverse-path whose domain has an SPF record without (all of) our addresses.
pub(super) fn spf_symbol(standing: &Standing) -> Option<Symbol> {
    let spf = &standing.spf;
    let (domain, of) = (&spf.domain, spf.results.len());
    match (spf.best()?, spf.allowed()) {
        (SpfResult::Pass, allowed) if allowed < of => {
            let evidence = format!(
                "SPF of {domain} allows {allowed} of {of} of our addresses; add {}",
                spf.not_allowed()
            );
            Some(evidence::symbol("SPF_PARTLY_US", 0.0, &evidence))
        }
        (SpfResult::Fail | SpfResult::SoftFail | SpfResult::Neutral, _) => {
            let evidence = format!(
                "SPF of {domain} does not allow {}; add these addresses, or an include: of a record that has them",
                spf.not_allowed()
            );
            Some(evidence::symbol("SPF_NOT_US", SPF_NOT_US, &evidence))
        }
        (SpfResult::PermError, _) => {
            let evidence = format!("the SPF record of {domain} is broken (permerror), so it allows nobody");
            Some(evidence::symbol("SPF_NOT_US", SPF_NOT_US, &evidence))
        }
        (SpfResult::Pass | SpfResult::None | SpfResult::TempError, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use mail_auth::common::parse::TxtRecordParser;
    use mail_auth::dmarc::Dmarc as Record;
    use mail_auth::{DnsError, Error};

    use super::*;

    fn spf(results: &[(&str, SpfResult)]) -> Standing {
        let results = results.iter().map(|(ip, result)| (ip.parse().unwrap(), *result)).collect();
        Standing {
            spf: Spf { domain: "shop.example".into(), results },
            dmarc: Dmarc::None,
            is_signed: false,
            lost_key: None,
        }
    }

    #[test]
    fn spf_is_told_when_no_address_of_ours_is_allowed() {
        use SpfResult as R;
        for (results, name, evidence) in [
            (&[("192.0.2.1", R::Fail)][..], "SPF_NOT_US", "192.0.2.1"),
            (&[("192.0.2.1", R::SoftFail), ("192.0.2.2", R::Neutral)], "SPF_NOT_US", "192.0.2.1, 192.0.2.2"),
            (&[("192.0.2.1", R::PermError)], "SPF_NOT_US", "broken"),
            (&[("192.0.2.1", R::Pass), ("192.0.2.2", R::Fail)], "SPF_PARTLY_US", "1 of 2"),
            (&[("192.0.2.1", R::Pass)], "", ""),
            (&[("192.0.2.1", R::None)], "", ""),
            (&[("192.0.2.1", R::TempError), ("192.0.2.2", R::Fail)], "", ""),
            (&[], "", ""),
        ] {
            let symbol = spf_symbol(&spf(results));
            assert_eq!(symbol.as_ref().map_or("", |s| &s.name), name, "{results:?}");
            assert!(symbol.is_none_or(|s| s.evidence.contains(evidence)), "{results:?}");
        }
        let many: Vec<(String, R)> = (1..=6).map(|n| (format!("192.0.2.{n}"), R::Fail)).collect();
        let many: Vec<(&str, R)> = many.iter().map(|(ip, result)| (ip.as_str(), *result)).collect();
        let symbol = spf_symbol(&spf(&many)).unwrap();
        assert!(symbol.evidence.contains("192.0.2.3 and 3 more"), "{}", symbol.evidence);
    }

    #[test]
    fn dmarc_fails_only_where_a_record_says_so_and_nothing_is_aligned() {
        let record = std::sync::Arc::new(Record::parse(b"v=DMARC1; p=reject").unwrap());
        let not_aligned = || DmarcResult::Fail(Error::NotAligned);
        let later = || DmarcResult::TempError(Error::Dns(DnsError::Resolver(String::new())));
        let none = || DmarcResult::None;
        let of = |spf, dkim, has_record: bool| {
            let output = DmarcOutput::default().with_spf_result(spf).with_dkim_result(dkim);
            dmarc(&if has_record { output.with_record(record.clone()) } else { output })
        };
        assert_eq!(of(none(), none(), false), Dmarc::None);
        assert_eq!(of(none(), none(), true), Dmarc::Fails(Policy::None));
        assert_eq!(of(not_aligned(), none(), true), Dmarc::Fails(Policy::None));
        assert_eq!(of(DmarcResult::Pass, not_aligned(), true), Dmarc::Passes);
        assert_eq!(of(none(), DmarcResult::Pass, true), Dmarc::Passes);
        assert_eq!(of(later(), not_aligned(), true), Dmarc::Unknown);
        assert_eq!(of(later(), later(), false), Dmarc::Unknown);
        assert_eq!(of(DmarcResult::Pass, later(), true), Dmarc::Passes);
    }

    #[test]
    fn what_is_not_known_is_not_said_of_the_from_domain() {
        let of = |dmarc, is_signed, brought| {
            Standing { dmarc, is_signed, ..spf(&[]) }
                .authentication(brought)
                .map(|a| (a.has_dmarc, a.has_dkim))
        };
        assert_eq!(of(Dmarc::Unknown, true, Some(false)), None);
        assert_eq!(of(Dmarc::None, false, Some(false)), Some((false, Some(false))));
        assert_eq!(of(Dmarc::Passes, false, None), Some((true, None)));
        assert_eq!(of(Dmarc::Fails(Policy::None), false, Some(true)), Some((true, Some(true))));
        assert_eq!(of(Dmarc::None, true, Some(false)), Some((false, Some(true))));
    }

    #[test]
    fn what_the_owner_asks_for_makes_the_weight() {
        let from = Domain::parse("shop.example").unwrap();
        let standing = spf(&[("192.0.2.1", SpfResult::Fail)]);
        let weights = [Policy::Reject, Policy::Quarantine, Policy::None].map(|policy| {
            let symbol = dmarc_symbol(&from, policy, &standing);
            assert!(symbol.evidence.contains("does not allow 192.0.2.1"), "{}", symbol.evidence);
            symbol.weight
        });
        assert!(weights[0] > weights[1] && weights[1] > weights[2] && weights[0] <= 0.3);
        let other = dmarc_symbol(&from, Policy::Reject, &spf(&[("192.0.2.1", SpfResult::Pass)]));
        assert!(other.evidence.contains("p=reject: SPF passes for shop.example, which is not aligned"));
        for (is_another, expected) in [(false, "is not in DNS"), (true, "in DNS is not of the DKIM key")] {
            let name = "s1._domainkey.shop.example".to_owned();
            let lost = Standing { lost_key: Some(LostKey { name, is_another }), ..standing.clone() };
            let told = dmarc_symbol(&from, Policy::Reject, &lost).evidence;
            assert!(told.contains(&format!("s1._domainkey.shop.example {expected}")), "{told}");
        }
    }
}

//! Whether receivers find the record of a key that we sign with (RFC 6376, 3.6.1).

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use mail_auth::MessageAuthenticator;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use schemas::settings::DkimAlgorithm;

/// In base64, what a public RSA key of 2048 bits or more has before it in a `SubjectPublicKeyInfo` (RFC 5280, 4.1).
const RSA_INFO_CHARS: usize = 32;

/// A key that a message will be signed with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OurKey {
    /// Of its record.
    pub name: String,
    pub algorithm: DkimAlgorithm,
    /// As it has to stand in `p=`.
    pub public_key: String,
}

/// A key of ours whose record receivers do not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostKey {
    /// Where the record should be.
    pub name: String,
    /// Another record is there.
    pub is_another: bool,
}

/// Whether receivers can verify what these keys sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// One of them.
    Yes,
    /// None; this is the first of them.
    No(LostKey),
    /// DNS does not say.
    Unknown,
}

/// Looks the keys up, until one is found.
pub(super) async fn published(resolver: &MessageAuthenticator, keys: &[OurKey]) -> Published {
    let (mut lost, mut is_unknown) = (None, false);
    for key in keys {
        match texts(resolver, &key.name).await {
            Some(records) if records.iter().any(|record| holds(record, key)) => {
                return Published::Yes;
            }
            Some(records) => {
                lost = lost.or(Some(LostKey { name: key.name.clone(), is_another: !records.is_empty() }));
            }
            None => is_unknown = true,
        }
    }
    match lost {
        Some(lost) if !is_unknown => Published::No(lost),
        _ => Published::Unknown,
    }
}

/// The TXT records of a name. `None`: DNS does not say.
async fn texts(resolver: &MessageAuthenticator, name: &str) -> Option<Vec<Vec<u8>>> {
    let Ok(name) = Name::from_str_relaxed(format!("{name}.")) else { return Some(Vec::new()) };
    match resolver.resolver().txt_lookup(name).await {
        Ok(lookup) => {
            let texts = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            });
            Some(texts.collect())
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Some(Vec::new())
        }
        Err(_) => None,
    }
}

/// Whether a record is that of this key, and receivers can read it.
fn holds(record: &[u8], key: &OurKey) -> bool {
    let text = String::from_utf8_lossy(record);
    let tag = |wanted: &str| {
        let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
        tags.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value)
    };
    let kind = match key.algorithm {
        DkimAlgorithm::RsaSha256 => "rsa",
        DkimAlgorithm::Ed25519Sha256 => "ed25519",
    };
    if !tag("k").unwrap_or("rsa").trim().eq_ignore_ascii_case(kind) {
        return false;
    }
    let (published, ours) = (bare(tag("p").unwrap_or_default()), bare(&key.public_key));
    // RSA keys are also published without what says that they are RSA keys.
    let before = ours.strip_suffix(&published).map(str::len);
    matches!(before, Some(0 | RSA_INFO_CHARS)) && DomainKey::parse(record).is_ok()
}

fn bare(base64: &str) -> String {
    let text: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    text.trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::dns::fake::{NameServer, Says};

    const ED25519: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const OTHER: &str = "TIDvcm5yy9IB2nH0hNOhy8eU8d3hOLdVGv6rkQLJNhQ=";
    const RSA: &str = include_str!("key/rsa.txt");

    fn our_key(selector: &str, public_key: &str) -> OurKey {
        let is_rsa = public_key.len() > 100;
        OurKey {
            name: format!("{selector}._domainkey.a.example"),
            algorithm: if is_rsa { DkimAlgorithm::RsaSha256 } else { DkimAlgorithm::Ed25519Sha256 },
            public_key: public_key.to_owned(),
        }
    }

    #[test]
    fn a_record_is_that_of_the_key_when_its_public_part_is() {
        let rsa = RSA.trim();
        for (record, key, is) in [
            (format!("v=DKIM1; k=ed25519; p={ED25519}"), ED25519, true),
            (format!("k=ed25519;\tp = {} {}", &ED25519[..20], &ED25519[20..]), ED25519, true),
            (format!("v=DKIM1; k=ed25519; p={}; t=s", ED25519.trim_end_matches('=')), ED25519, true),
            (format!("v=DKIM1; k=ed25519; p={OTHER}"), ED25519, false),
            (format!("v=DKIM1; k=rsa; p={ED25519}"), ED25519, false),
            ("v=DKIM1; k=ed25519; p=".to_owned(), ED25519, false),
            ("v=DKIM1; k=ed25519".to_owned(), ED25519, false),
            (format!("v=DKIM1; p={ED25519}"), ED25519, false),
            (format!("v=spf1; k=ed25519; p={ED25519}"), ED25519, false),
            (format!("v=DKIM1; k=rsa; p={rsa}"), rsa, true),
            (format!("v=DKIM1; p={rsa}"), rsa, true),
            (format!("v=DKIM1; k=rsa; p={}", &rsa[RSA_INFO_CHARS..]), rsa, true),
            (format!("v=DKIM1; k=rsa; p={}", &rsa[RSA_INFO_CHARS + 4..]), rsa, false),
            (format!("v=DKIM1; k=rsa; p={rsa}"), ED25519, false),
        ] {
            assert_eq!(holds(record.as_bytes(), &our_key("s", key)), is, "{record}");
        }
    }

    #[tokio::test]
    async fn a_key_whose_record_is_another_one_is_not_published() {
        let names = NameServer::start(|name| match name {
            "old._domainkey.a.example" => Says::Text(format!("v=DKIM1; k=ed25519; p={OTHER}")),
            "long._domainkey.a.example" => Says::Text(format!("v=DKIM1; k=rsa; p={RSA}")),
            "broken._domainkey.a.example" => Says::Fails,
            _ => Says::NoSuchName,
        });
        let resolver = names.await.resolver();
        let lost = |selector: &str, is_another| {
            Published::No(LostKey { name: format!("{selector}._domainkey.a.example"), is_another })
        };
        for (selectors, expected) in [
            (&["old"][..], lost("old", true)),
            (&["gone", "old"], lost("gone", false)),
            (&["long"], Published::Yes),
            (&["broken", "long"], Published::Yes),
            (&["gone", "broken"], Published::Unknown),
        ] {
            let key = |selector: &&str| our_key(selector, if *selector == "long" { RSA } else { ED25519 });
            let keys: Vec<OurKey> = selectors.iter().map(key).collect();
            assert_eq!(published(&resolver, &keys).await, expected, "{selectors:?}");
        }
    }
}

//! DKIM keys: made, imported, shown with the record to publish, removed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use schemas::Domain;
use schemas::settings::{DkimAlgorithm, DkimKey, Setting};

use super::params::Params;
use super::request::{Actor, Body, ready};
use crate::api::{DkimGenerate, DkimImport, DkimKeyInfo, DkimKeys, DkimRemove};
use crate::dkim::{self, NewKey, PrivateKey};
use crate::writer::blocking;
use crate::{Context, Error};

pub async fn list(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<DkimKeys>, Error> {
    let mut params = Params::new(query);
    let domain = params.text("domain").as_deref().map(domain).transpose()?;
    params.finish()?;
    ready(&context.settings, "settings").await?;
    let view = context.settings.read();
    let keys = view.iter().filter_map(|(_, setting)| match setting {
        Setting::DkimKey(key) if domain.as_ref().is_none_or(|domain| *domain == key.domain) => {
            Some(info(key))
        }
        _ => None,
    });
    Ok(Json(DkimKeys { keys: keys.collect() }))
}

pub async fn generate(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<DkimGenerate>,
) -> Result<Json<DkimKeyInfo>, Error> {
    let (domain, selector) = (domain(&request.domain)?, selector(&request.selector)?);
    let kind = NewKey::parse(request.algorithm.as_deref().unwrap_or("rsa"))
        .map_err(|reason| Error::invalid(reason, "use rsa (2048 bits), rsa4096 or ed25519"))?;
    refuse_second(&context, &domain, &selector)?;
    let key = blocking(move || PrivateKey::generate(kind).map_err(Error::Internal)).await?;
    put(&context, &by, &key, &domain, &selector).await
}

pub async fn import(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<DkimImport>,
) -> Result<Json<DkimKeyInfo>, Error> {
    let (domain, selector) = (domain(&request.domain)?, selector(&request.selector)?);
    let key = PrivateKey::from_pem(&request.pem).map_err(|reason| {
        Error::invalid(
            format!("the key file {reason}"),
            "give an unencrypted PEM private key, RSA of 2048 bits or more or Ed25519",
        )
    })?;
    refuse_second(&context, &domain, &selector)?;
    put(&context, &by, &key, &domain, &selector).await
}

pub async fn remove(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<DkimRemove>,
) -> Result<Json<DkimKeyInfo>, Error> {
    let (domain, selector) = (domain(&request.domain)?, selector(&request.selector)?);
    ready(&context.settings, "settings").await?;
    let key = dkim::setting_key(&domain, &selector);
    let Some(Setting::DkimKey(found)) = context.settings.read().get(&key).cloned() else {
        return Err(Error::not_found(
            format!("{domain} has no DKIM key `{selector}`"),
            "`mailweir dkim list` shows the keys that are there",
        ));
    };
    context.writer.remove(&by, &key).await?;
    let mut info = info(&found);
    info.notes = vec![format!(
        "leave {} in DNS for a week: receivers still verify mail that was signed with it",
        info.record.name
    )];
    Ok(Json(info))
}

async fn put(
    context: &Context,
    by: &str,
    key: &PrivateKey,
    domain: &Domain,
    selector: &str,
) -> Result<Json<DkimKeyInfo>, Error> {
    let key = key.seal(context.writer.cluster_key(), domain, selector, Some(context.clock.now()));
    let older = context.settings.read().dkim_keys(domain).find(|k| k.algorithm == key.algorithm).cloned();
    context.writer.put(by, Setting::DkimKey(key.clone()), true).await?;
    let mut info = info(&key);
    info.notes.push(match older {
        None => "publish the record first: from now on mail of this domain is signed with the key".into(),
        Some(older) => format!(
            "publish the record; mail is signed with the key once the older one is removed (`mailweir dkim remove {domain} {}`) or dkim_selector = \"{selector}\" says so",
            older.selector
        ),
    });
    let rsa_beside =
        context.settings.read().dkim_keys(domain).any(|k| k.algorithm == DkimAlgorithm::RsaSha256);
    if key.algorithm == DkimAlgorithm::Ed25519Sha256 && !rsa_beside {
        info.notes.push(format!(
            "many receivers do not verify Ed25519: generate an RSA key for {domain} beside it"
        ));
    }
    Ok(Json(info))
}

/// Before a key is made for nothing; the writer checks again.
fn refuse_second(context: &Context, domain: &Domain, selector: &str) -> Result<(), Error> {
    if context.settings.read().get(&dkim::setting_key(domain, selector)).is_none() {
        return Ok(());
    }
    Err(Error::conflict(
        format!("{domain} has a DKIM key `{selector}` already"),
        "use another selector: receivers still verify mail signed with the old key; remove that one later",
    ))
}

fn info(key: &DkimKey) -> DkimKeyInfo {
    DkimKeyInfo {
        domain: key.domain.to_string(),
        selector: key.selector.clone(),
        algorithm: key.algorithm,
        bits: dkim::bits(key),
        record: dkim::dns_record(key),
        notes: Vec::new(),
    }
}

fn domain(text: &str) -> Result<Domain, Error> {
    let parsed = Domain::parse(text).ok().filter(|domain| domain.literal_ip().is_none());
    parsed.ok_or_else(|| {
        Error::invalid(format!("domain: `{text}` is not a domain"), "write it as customer.example")
    })
}

fn selector(text: &str) -> Result<String, Error> {
    dkim::parse_selector(text).ok_or_else(|| {
        Error::invalid(
            format!("selector: `{text}` is not a selector"),
            "write letters, digits and hyphens, as s1",
        )
    })
}

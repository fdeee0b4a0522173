//! Outgoing users and identities: who sends, and locks.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use ipnet::IpNet;
use schemas::commands::Action;
use schemas::senders::{HoldRow, SenderRow};
use schemas::verdict::Identity;
use schemas::{Domain, Timestamp, UserId};

use super::params::Params;
use super::request::{Actor, Body, ready};
use crate::api::{CommandOutcome, Coverage, HeldAnswer, IdentitiesAnswer, LockRequest, UnlockRequest};
use crate::settings_file::did_you_mean;
use crate::{Context, Error, command};

/// A lock by a person may last this long; without minutes it has no end.
const MAX_LOCK_MINUTES: u64 = 366 * 24 * 60;
/// What the scorer keeps of a reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

pub async fn identities(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<IdentitiesAnswer>, Error> {
    let now = context.clock.now();
    let mut params = Params::new(query);
    let since = params.time("since", now)?;
    let user = params.text("user").map(|text| user_id(&text));
    let page = params.page(1000)?;
    params.finish()?;
    ready(&context.senders, "senders").await?;
    let view = context.senders.read();
    let wanted = |row: &&SenderRow| {
        since.is_none_or(|since| row.last_seen >= since) && user.as_ref().is_none_or(|user| row.user == *user)
    };
    let (mut identities, users): (Vec<&SenderRow>, Vec<&SenderRow>) =
        view.rows().filter(wanted).partition(|row| row.identity.is_some());
    identities.sort_by(|a, b| (b.last_seen, &a.identity).cmp(&(a.last_seen, &b.identity)));
    let rows = identities.iter().skip(page.offset).take(page.limit).map(|row| as_of(row, now)).collect();
    Ok(Json(IdentitiesAnswer {
        users: users.into_iter().take(page.limit).map(|row| as_of(row, now)).collect(),
        total: identities.len() as u64,
        coverage: coverage(&identities),
        identities: rows,
    }))
}

pub async fn held(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<HeldAnswer>, Error> {
    let mut params = Params::new(query);
    let user = params.text("user").map(|text| user_id(&text));
    let page = params.page(1000)?;
    params.finish()?;
    ready(&context.senders, "senders").await?;
    let view = context.senders.read();
    let wanted = |row: &&HoldRow| user.as_ref().is_none_or(|user| row.message.user == *user);
    let total = view.holds().filter(wanted).count() as u64;
    let rows = view.holds().filter(wanted).skip(page.offset).take(page.limit).cloned().collect();
    Ok(Json(HeldAnswer { rows, total }))
}

/// A row without a lock that is over.
fn as_of(row: &SenderRow, now: Timestamp) -> SenderRow {
    let mut row = row.clone();
    row.lock = row.lock.filter(|lock| lock.holds_at(now));
    row
}

/// How many identities and messages each rule found.
fn coverage(identities: &[&SenderRow]) -> Vec<Coverage> {
    let mut sources: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in identities {
        let counts = sources.entry(&row.identity_source).or_default();
        counts.0 += 1;
        counts.1 += row.released + row.quarantined;
    }
    let mut coverage: Vec<Coverage> = sources
        .into_iter()
        .map(|(source, (identities, messages))| Coverage {
            identity_source: source.into(),
            identities,
            messages,
        })
        .collect();
    coverage.sort_by_key(|row| std::cmp::Reverse(row.messages));
    coverage
}

pub async fn lock(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<LockRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    let (user, domain) = known_user(&context, &request.user).await?;
    let identity = identity(request.identity)?;
    if identity.as_ref().is_some_and(|identity| identity.0 == "<>") {
        return Err(Error::invalid(
            "the null reverse-path `<>` is never locked: it carries the bounces of everybody",
            "lock the identity behind the mail, or the user",
        ));
    }
    let reason = reason(&request.reason)?;
    if reason.is_empty() {
        return Err(Error::invalid(
            "a lock needs a reason",
            "say why, for whoever unlocks: it stands in the audit trail",
        ));
    }
    if request.minutes.is_some_and(|minutes| !(1..=MAX_LOCK_MINUTES).contains(&minutes)) {
        return Err(Error::invalid(
            format!("minutes: `{}` is not between 1 and {MAX_LOCK_MINUTES}", request.minutes.unwrap_or(0)),
            "give the minutes, or none for a lock that only a person ends",
        ));
    }
    let now = context.clock.now();
    let until = request.minutes.map(|minutes| now.plus(std::time::Duration::from_secs(minutes * 60)));
    let seen = context.senders.read().get(&user, identity.as_ref()).is_some();
    let action = Action::Lock { user: user.clone(), domain, identity: identity.clone(), until, reason };
    let mut outcome = one(&context, &by, action).await?;
    if let Some(identity) = identity.filter(|_| !seen) {
        outcome
            .text
            .push(format!("{identity} has not been seen sending as {user} yet: check how it is written"));
    }
    Ok(Json(outcome))
}

pub async fn unlock(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<UnlockRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    let (user, domain, identity, reason) = whose(&context, request).await?;
    one(&context, &by, Action::Unlock { user, domain, identity, reason, since: None }).await.map(Json)
}

/// What counts against a user begins anew; it takes what `unlock` takes.
pub async fn reset(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<UnlockRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    let (user, domain, identity, reason) = whose(&context, request).await?;
    one(&context, &by, Action::Reset { user, domain, identity, reason }).await.map(Json)
}

async fn whose(
    context: &Context,
    request: UnlockRequest,
) -> Result<(UserId, Domain, Option<Identity>, String), Error> {
    let (user, domain) = known_user(context, &request.user).await?;
    Ok((user, domain, identity(request.identity)?, reason(&request.reason)?))
}

async fn one(context: &Context, by: &str, action: Action) -> Result<CommandOutcome, Error> {
    let mut outcome = command::give(context, by, vec![action]).await?;
    outcome.matched = 1;
    Ok(outcome)
}

/// The user and its domain, of the settings or, when it was removed from them, of what it sent.
async fn known_user(context: &Context, text: &str) -> Result<(UserId, Domain), Error> {
    ready(&context.settings, "settings").await?;
    ready(&context.senders, "senders").await?;
    let id = user_id(text);
    let settings = context.settings.read();
    if let Some(user) = settings.user(&id) {
        return Ok((id, user.domain.clone()));
    }
    if let Some(row) = context.senders.read().rows().find(|row| row.user == id) {
        return Ok((id, row.domain.clone()));
    }
    let ids: Vec<UserId> = settings.users().map(schemas::settings::OutgoingUser::id).collect();
    let range =
        text.parse().ok().and_then(|ip| settings.user_by_ip(ip)).map(schemas::settings::OutgoingUser::id);
    let fix = match range {
        Some(range) => format!("that address sends as the outgoing user {range}"),
        None => did_you_mean(id.as_str(), ids.iter().map(UserId::as_str), || {
            "`mailweir settings` shows those that are there".into()
        }),
    };
    Err(Error::not_found(format!("there is no outgoing user `{text}`"), fix))
}

/// A user id as people write it: an address means its range of one, logins are lower case.
pub fn user_id(text: &str) -> UserId {
    let address = text.parse::<std::net::IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
    match address.ok().or_else(|| text.parse::<IpNet>().ok()) {
        Some(range) => UserId(range.trunc().to_string()),
        None => UserId(text.to_lowercase()),
    }
}

fn identity(text: Option<String>) -> Result<Option<Identity>, Error> {
    match text {
        Some(text) if text.trim().is_empty() => {
            Err(Error::invalid("identity: is empty", "leave it out to lock the whole user"))
        }
        other => Ok(other.map(Identity)),
    }
}

fn reason(text: &str) -> Result<String, Error> {
    if text.len() > MAX_REASON_BYTES {
        return Err(Error::invalid("reason: is longer than 1000 bytes", "shorten it"));
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_however_they_are_written() {
        for (text, id) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.7/28", "192.0.2.0/28"),
            ("Shop@Customer.Example", "shop@customer.example"),
        ] {
            assert_eq!(user_id(text).as_str(), id);
        }
    }
}

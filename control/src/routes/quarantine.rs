//! The quarantine: listed, shown, and what becomes of it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use schemas::commands::Action;
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::{MessageId, UserId};

use super::params::{self, Params};
use super::request::{Actor, Body, ready};
use super::senders::user_id;
use crate::api::{CommandOutcome, QuarantineAnswer, QuarantineDetails, QuarantineRequest, QuarantineSelect};
use crate::{Context, Error, command, message};

/// Messages that one request may act on.
const MAX_AT_ONCE: usize = 10_000;

pub async fn list(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<QuarantineAnswer>, Error> {
    let now = context.clock.now();
    let mut params = Params::new(query);
    let select = QuarantineSelect {
        user: params.text("user"),
        domain: params.text("domain"),
        identity: params.text("identity"),
        classification: params.text("classification"),
        reverse_path: params.text("reverse_path"),
        recipient: params.text("recipient"),
        since: params.time("since", now)?,
        before: params.time("before", now)?,
    };
    let state = state(params.text("state").as_deref())?;
    let page = params.page(100)?;
    params.finish()?;
    ready(&context.quarantine, "quarantine").await?;
    let select = normal(select);
    let view = context.quarantine.read();
    let total = view.selected(&select, state).count() as u64;
    Ok(Json(QuarantineAnswer { messages: page.of(view.selected(&select, state)), total }))
}

fn state(text: Option<&str>) -> Result<Option<QuarantineState>, Error> {
    Ok(match text {
        None | Some("in") => Some(QuarantineState::In),
        Some("released") => Some(QuarantineState::Released),
        Some("confirmed") => Some(QuarantineState::Confirmed),
        Some("removed") => Some(QuarantineState::Removed),
        Some("all") => None,
        Some(other) => {
            return Err(Error::invalid(
                format!("state: `{other}` is no state"),
                "use in, released, confirmed, removed or all",
            ));
        }
    })
}

/// Users and domains as the rows have them.
fn normal(select: QuarantineSelect) -> QuarantineSelect {
    let domain =
        select.domain.map(|text| schemas::Domain::parse(&text).map_or(text, |domain| domain.to_string()));
    QuarantineSelect { user: select.user.map(|text| user_id(&text).0), domain, ..select }
}

pub async fn details(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<QuarantineDetails>, Error> {
    let row = find(&context, &id).await?;
    let stored = message::read(&context.log, row.position, false).await?;
    let symbols = if stored.symbols.is_empty() { row.symbols.clone() } else { stored.symbols };
    Ok(Json(QuarantineDetails {
        explanation: row.message.classification.explanation().into(),
        envelope: stored.envelope,
        score: stored.score,
        symbols,
        row,
    }))
}

pub async fn eml(State(context): State<Context>, Path(id): Path<String>) -> Result<impl IntoResponse, Error> {
    let row = find(&context, &id).await?;
    let stored = message::read(&context.log, row.position, true).await?;
    let name = format!("attachment; filename=\"{}.eml\"", row.message.id);
    // As a download, never shown: it is what was held back.
    let headers = [(header::CONTENT_TYPE, "message/rfc822".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, stored.content))
}

async fn find(context: &Context, id: &str) -> Result<QuarantineRow, Error> {
    let id = params::message_id(id)?;
    ready(&context.quarantine, "quarantine").await?;
    context.quarantine.read().get(id).cloned().ok_or_else(|| not_there(&[id]))
}

fn not_there(ids: &[MessageId]) -> Error {
    let names: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(5);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Error::not_found(
        format!("not in quarantine, nor were within the last 28 days: {}{more}", names.join(", ")),
        "`mailweir quarantine` lists what is there, `mailweir trace ID` tells what became of a message",
    )
}

pub async fn release(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<QuarantineRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    act(&context, &by, request, |user, message_id| Action::Release { user, message_id }).await
}

pub async fn confirm(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<QuarantineRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    act(&context, &by, request, |user, message_id| Action::Confirm { user, message_id }).await
}

pub async fn remove(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<QuarantineRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    act(&context, &by, request, |user, message_id| Action::Remove { user, message_id }).await
}

async fn act(
    context: &Context,
    by: &str,
    request: QuarantineRequest,
    action: impl Fn(UserId, MessageId) -> Action,
) -> Result<Json<CommandOutcome>, Error> {
    ready(&context.quarantine, "quarantine").await?;
    let by_selection = request.select.is_some();
    let rows = chosen(context, request.message_ids, request.select)?;
    let matched = rows.len() as u64;
    if request.dry_run {
        return Ok(Json(CommandOutcome { dry_run: true, matched, ..CommandOutcome::default() }));
    }
    check_expected(request.expected, matched, by_selection)?;
    if rows.len() > MAX_AT_ONCE {
        return Err(Error::invalid(
            format!("{matched} messages are more than the {MAX_AT_ONCE} that one request may act on"),
            "narrow the selection, by user or by since and before, and do it in parts",
        ));
    }
    let actions = rows.into_iter().map(|(user, id)| action(user, id)).collect();
    let outcome = command::give(context, by, actions).await?;
    Ok(Json(CommandOutcome { matched, ..outcome }))
}

/// The messages meant: by id in whatever state, by selection those that are in quarantine.
fn chosen(
    context: &Context,
    mut ids: Vec<MessageId>,
    select: Option<QuarantineSelect>,
) -> Result<Vec<(UserId, MessageId)>, Error> {
    let view = context.quarantine.read();
    match (ids.is_empty(), select) {
        (false, None) => {
            ids.sort_unstable();
            ids.dedup();
            // What waits for a limit can be let go or dropped, too.
            let senders = context.senders.read();
            let user_of = |id: MessageId| {
                let quarantined = view.get(id).map(|row| row.message.user.clone());
                quarantined.or_else(|| senders.hold(id).map(|row| row.message.user.clone()))
            };
            let (found, missing): (Vec<_>, Vec<_>) =
                ids.iter().map(|id| (user_of(*id), *id)).partition(|(user, _)| user.is_some());
            if !missing.is_empty() {
                return Err(not_there(&missing.into_iter().map(|(_, id)| id).collect::<Vec<_>>()));
            }
            Ok(found.into_iter().filter_map(|(user, id)| Some((user?, id))).collect())
        }
        (true, Some(select)) => {
            let select = normal(select);
            let rows = view.selected(&select, Some(QuarantineState::In));
            Ok(rows.map(|row| (row.message.user.clone(), row.message.id)).collect())
        }
        _ => Err(Error::invalid("nothing is chosen, or in two ways", "give either message_ids or select")),
    }
}

/// A mass action must say how much it means to touch.
pub fn check_expected(expected: Option<u64>, matched: u64, required: bool) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != matched => Err(Error::conflict(
            format!("{matched} match now, not the {expected} that were expected"),
            "look again, then repeat with the count that is right",
        )),
        None if required => Err(Error::invalid(
            format!("{matched} match, and the request does not say how many it expects"),
            format!("ask with dry_run first, then repeat with expected = {matched}"),
        )),
        _ => Ok(()),
    }
}

//! What is still to be delivered: listed, and acted on.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Query, State};
use schemas::commands::{Action, QueueSelect};
use schemas::queue::QueueEntry;
use schemas::verdict::Identity;
use serde_json::Value;

use super::params::Params;
use super::quarantine::check_expected;
use super::request::{Actor, Body, ready};
use super::senders::user_id;
use crate::api::{
    CommandOutcome, DirectoryRequest, ExportAnswer, LaneMoveRequest, QueueAnswer, QueueRequest,
    RerouteRequest,
};
use crate::field_names::field_names;
use crate::settings_file::{did_you_mean, parse_host};
use crate::{Context, Error, command, export, lane_move, queue_view};

pub async fn list(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<QueueAnswer>, Error> {
    let mut params = Params::new(query);
    let select = QueueSelect {
        message_id: params.message_id("message_id")?,
        user: params.text("user").map(|text| user_id(&text)),
        domain: params.parse("domain", "write a domain, as customer.example")?,
        identity: params.text("identity").map(Identity),
        reverse_path: params.text("reverse_path"),
        recipient: params.text("recipient"),
        site: params.text("site"),
    };
    let node = params.text("node");
    let held = params.parse::<bool>("held", "write true or false")?;
    let page = params.page(100)?;
    params.finish()?;
    ready(&context.queue, "queue").await?;
    let view = context.queue.read();
    let mut found: Vec<&QueueEntry> = view
        .selected(&select)
        .filter(|entry| node.as_ref().is_none_or(|node| *node == entry.node))
        .filter(|entry| held.is_none_or(|held| held == entry.held))
        .collect();
    found.sort_by_key(|entry| (entry.next_attempt, entry.message.id));
    Ok(Json(QueueAnswer {
        total: found.len() as u64,
        recipients: found.iter().map(|entry| entry.recipients.len() as u64).sum(),
        totals: queue_view::totals(found.iter().copied()),
        entries: page.of(found.iter().copied()),
    }))
}

pub async fn retry(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<Value>,
) -> Result<Json<CommandOutcome>, Error> {
    let request = strict(request)?;
    act(&context, &by, request, false, |node, select| Action::QueueRetry { node, select }).await
}

pub async fn hold(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<Value>,
) -> Result<Json<CommandOutcome>, Error> {
    let request = strict(request)?;
    act(&context, &by, request, false, |node, select| Action::QueueHold { node, select }).await
}

pub async fn resume(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<Value>,
) -> Result<Json<CommandOutcome>, Error> {
    let request = strict(request)?;
    act(&context, &by, request, false, |node, select| Action::QueueResume { node, select }).await
}

pub async fn remove(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<Value>,
) -> Result<Json<CommandOutcome>, Error> {
    let request: QueueRequest = strict(request)?;
    let needs_count = request.select.message_id.is_none();
    act(&context, &by, request, needs_count, |node, select| Action::QueueRemove { node, select }).await
}

pub async fn reroute(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<Value>,
) -> Result<Json<CommandOutcome>, Error> {
    let request: RerouteRequest = strict(request)?;
    let route = parse_host(&request.route).ok_or_else(|| {
        Error::invalid(
            format!("route: `{}` is not a host with a port", request.route),
            "write it as mx.customer.example:25, 192.0.2.25:25 or [2001:db8::25]:25",
        )
    })?;
    let RerouteRequest { select, dry_run, expected, .. } = request;
    let request = QueueRequest { select, dry_run, expected };
    act(&context, &by, request, false, |node, select| Action::QueueReroute {
        node,
        select,
        route: route.clone(),
    })
    .await
}

pub async fn move_lane(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<LaneMoveRequest>,
) -> Result<Json<CommandOutcome>, Error> {
    ready(&context.queue, "queue").await?;
    let LaneMoveRequest { from, to, dry_run } = request;
    let (checked, matched) = {
        let view = context.queue.read();
        let lanes: BTreeSet<&str> = view.entries().map(|entry| entry.node.as_str()).collect();
        let matched = view.entries().filter(|entry| entry.node == from).count() as u64;
        (lane_move::check(&from, &to, &lanes), matched)
    };
    if let Err(error) = checked {
        if matches!(error, Error::NotFound { .. }) {
            lane_move::tell(&context, &by, &to).await?;
        }
        return Err(error);
    }
    if dry_run {
        return Ok(Json(CommandOutcome { dry_run, matched, ..CommandOutcome::default() }));
    }
    let outcome = lane_move::run(&context, &by, &from, &to).await?;
    tracing::info!(by, from, to, moved = outcome.affected, "lane moved");
    Ok(Json(CommandOutcome { matched, ..outcome }))
}

/// A condition that is misspelt must not select everything.
fn strict<T: serde::de::DeserializeOwned>(request: Value) -> Result<T, Error> {
    let known = field_names::<QueueSelect>();
    let select = request.get("select").and_then(Value::as_object);
    if let Some(key) = select.into_iter().flat_map(|s| s.keys()).find(|key| !known.contains(&key.as_str())) {
        let fix = did_you_mean(key, known.iter().copied(), || format!("known here are {}", known.join(", ")));
        return Err(Error::invalid(format!("select: there is no condition `{key}`"), fix));
    }
    serde_json::from_value(request).map_err(|error| {
        Error::invalid(
            format!("the request is not what this route takes: {error}"),
            "correct the JSON that is sent",
        )
    })
}

/// One command to each lane that holds something of what is selected.
async fn act(
    context: &Context,
    by: &str,
    request: QueueRequest,
    needs_count: bool,
    action: impl Fn(String, QueueSelect) -> Action,
) -> Result<Json<CommandOutcome>, Error> {
    ready(&context.queue, "queue").await?;
    let QueueRequest { mut select, dry_run, expected } = request;
    select.user = select.user.map(|user| user_id(user.as_str()));
    let (nodes, matched) = context.queue.read().lanes(&select);
    if dry_run {
        return Ok(Json(CommandOutcome { dry_run: true, matched, ..CommandOutcome::default() }));
    }
    check_expected(expected, matched, needs_count)?;
    if let (0, Some(id)) = (matched, select.message_id) {
        return Err(Error::not_found(
            format!("nothing of message {id} is in the queue"),
            "`mailweir trace ID` tells what became of it",
        ));
    }
    let actions = nodes.into_iter().map(|node| action(node, select.clone())).collect();
    let outcome = command::give(context, by, actions).await?;
    Ok(Json(CommandOutcome { matched, ..outcome }))
}

pub async fn export(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<DirectoryRequest>,
) -> Result<Json<ExportAnswer>, Error> {
    ready(&context.queue, "queue").await?;
    let answer = export::export(&context, request.dir).await?;
    tracing::info!(by, dir = %answer.dir.display(), written = answer.written, failed = answer.failed.len(), "queue exported");
    Ok(Json(answer))
}

//! Settings: shown, compared, applied; and who changed them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};

use super::params::Params;
use super::request::{Actor, Body, ready};
use crate::api::{
    ApplyAnswer, ApplyRequest, ChangesAnswer, PlanAnswer, SettingRow, SettingsAnswer, SettingsFile,
};
use crate::writer::version_of;
use crate::{Context, Error, redact};

pub async fn show(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<SettingsAnswer>, Error> {
    let mut params = Params::new(query);
    let kind = params.text("kind");
    params.finish()?;
    ready(&context.settings, "settings").await?;
    let view = context.settings.read();
    let wanted = |key: &str| kind.as_deref().is_none_or(|kind| key.split('/').next() == Some(kind));
    let settings = view.iter().filter(|(key, _)| wanted(key));
    let settings =
        settings.map(|(key, setting)| SettingRow { key: key.into(), setting: redact::setting(setting) });
    Ok(Json(SettingsAnswer { version: version_of(&view), settings: settings.collect() }))
}

pub async fn plan(
    State(context): State<Context>,
    Body(file): Body<SettingsFile>,
) -> Result<Json<PlanAnswer>, Error> {
    context.writer.plan(file).await.map(Json)
}

pub async fn apply(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyAnswer>, Error> {
    context.writer.apply(&by, request).await.map(Json)
}

pub async fn changes(
    State(context): State<Context>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<ChangesAnswer>, Error> {
    let mut params = Params::new(query);
    let since = params.time("since", context.clock.now())?;
    let key = params.text("key");
    let page = params.page(100)?;
    params.finish()?;
    let (mut changes, total) = context.history.find(since, key.as_deref(), page.offset + page.limit);
    changes.drain(..page.offset.min(changes.len()));
    Ok(Json(ChangesAnswer { changes, total }))
}

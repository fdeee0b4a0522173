//! The page behind the link in a lock notice. Looking at it changes nothing (mail scanners open links); its button does, once.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use schemas::Timestamp;
use schemas::commands::Action;
use schemas::senders::Lock;
use schemas::unlock_link::UnlockLink;

use super::request::ready;
use crate::{Context, Error, command};

/// The routes of the page, to be served where the people who get notices can reach them. They ask for no token but the link's.
pub fn unlock_pages(context: Context) -> Router {
    Router::new().route("/unlock/{token}", get(look).post(unlock)).with_state(context)
}

/// What a link is good for now.
#[derive(Debug, PartialEq)]
enum Standing<'a> {
    Locked(&'a Lock),
    /// Its day is over.
    Expired,
    /// The lock has ended, or another was set since.
    Ended,
}

fn standing<'a>(link: &UnlockLink, lock: Option<&'a Lock>, now: Timestamp) -> Standing<'a> {
    match lock {
        Some(lock) if lock.since == link.since && lock.holds_at(now) => {
            if link.is_good_at(now) {
                Standing::Locked(lock)
            } else {
                Standing::Expired
            }
        }
        _ => Standing::Ended,
    }
}

async fn look(State(context): State<Context>, Path(token): Path<String>) -> Response {
    answer(&context, &token, |standing, whose| match standing {
        Standing::Locked(lock) => page(
            StatusCode::OK,
            &format!("Unlock {whose}?"),
            &format!(
                "<p>Locked since {}.<br>{}</p><form method=\"post\"><button>Unlock</button></form>\
                 <p>Unlock it when its cause is gone: a password was changed, a script removed.</p>",
                lock.since.rfc3339(),
                escaped(&lock.reason)
            ),
        ),
        other => over(&other, whose),
    })
    .await
}

async fn unlock(State(context): State<Context>, Path(token): Path<String>) -> Response {
    let link = match read(&context, &token).await {
        Ok(link) => link,
        Err(refusal) => return refusal,
    };
    let whose = whose(&link);
    {
        let senders = context.senders.read();
        let row = senders.get(&link.user, link.identity.as_ref());
        let standing = standing(&link, row.and_then(|row| row.lock.as_ref()), context.clock.now());
        if !matches!(standing, Standing::Locked(_)) {
            return over(&standing, &whose);
        }
    }
    let by = format!("{} (unlock link)", link.to);
    let action = Action::Unlock {
        user: link.user,
        domain: link.domain,
        identity: link.identity,
        reason: "by the link in the lock notice".into(),
        since: Some(link.since),
    };
    match command::give(&context, &by, vec![action]).await {
        Ok(outcome) if outcome.refused > 0 => {
            page(StatusCode::CONFLICT, "Not unlocked", &paragraph(&outcome.text.join("; ")))
        }
        Ok(outcome) if outcome.pending > 0 => page(
            StatusCode::ACCEPTED,
            &format!("{whose} will be unlocked"),
            "<p>As soon as the scorer runs.</p>",
        ),
        // It ended in the meantime, or another one was set.
        Ok(outcome) if outcome.affected == 0 => over(&Standing::Ended, &whose),
        Ok(_) => page(StatusCode::OK, &format!("{whose} is unlocked"), "<p>Its mail is taken again.</p>"),
        Err(error) => later(&error),
    }
}

async fn answer(
    context: &Context,
    token: &str,
    show: impl FnOnce(Standing<'_>, &str) -> Response,
) -> Response {
    let link = match read(context, token).await {
        Ok(link) => link,
        Err(refusal) => return refusal,
    };
    let senders = context.senders.read();
    let lock = senders.get(&link.user, link.identity.as_ref()).and_then(|row| row.lock.as_ref());
    show(standing(&link, lock, context.clock.now()), &whose(&link))
}

async fn read(context: &Context, token: &str) -> Result<UnlockLink, Response> {
    let Ok(link) = UnlockLink::from_token(token, &context.cluster_key) else {
        let why = "<p>Open it as it stands in the notice; mail programs sometimes cut long links.</p>";
        return Err(page(StatusCode::NOT_FOUND, "This is no link of ours", why));
    };
    ready(&context.senders, "senders").await.map_err(|error| later(&error))?;
    Ok(link)
}

/// For a person, fit for HTML.
fn whose(link: &UnlockLink) -> String {
    match &link.identity {
        Some(identity) => {
            format!("{} of {}", escaped(&identity.0), escaped(link.user.as_str()))
        }
        None => format!("the outgoing user {}", escaped(link.user.as_str())),
    }
}

fn over(standing: &Standing<'_>, whose: &str) -> Response {
    match standing {
        Standing::Expired => page(
            StatusCode::GONE,
            "This link is too old",
            &format!(
                "<p>Links are good for 24 hours. {whose} is still locked: use <code>mailweir unlock</code>.</p>"
            ),
        ),
        _ => page(
            StatusCode::GONE,
            "Nothing to unlock",
            &format!("<p>The lock of {whose} that this link was for has ended.</p>"),
        ),
    }
}

fn later(error: &Error) -> Response {
    tracing::warn!(%error, "an unlock link cannot be used now");
    page(
        StatusCode::SERVICE_UNAVAILABLE,
        "Not now",
        "<p>The server is busy or starting; try again in a minute.</p>",
    )
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escaped(text))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `title` and `body` are HTML already.
fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>Mailweir</title>\
         <style>body{{font:16px/1.5 sans-serif;max-width:36em;margin:3em auto;padding:0 1em}}button{{font:inherit;padding:.4em 1.5em}}</style>\
         <h1>{title}</h1>{body}</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ];
    (status, headers, html).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::unlock_link::GOOD_FOR;
    use schemas::verdict::Identity;
    use schemas::{Domain, Mailbox, UserId};

    use super::*;

    const SINCE: Timestamp = Timestamp(1_795_512_600_000);

    fn link() -> UnlockLink {
        UnlockLink {
            user: UserId("192.0.2.0/28".into()),
            domain: Domain::parse("server.example").unwrap(),
            identity: Some(Identity("<script>&'\"".into())),
            since: SINCE,
            to: Mailbox::parse("abuse@hoster.example").unwrap(),
        }
    }

    #[test]
    fn a_link_is_for_one_lock_and_for_a_day() {
        let lock = |since, until| Lock { since, until, by: "policy".into(), reason: String::new() };
        let now = SINCE.plus(Duration::from_secs(60));
        let held = lock(SINCE, None);
        assert_eq!(standing(&link(), Some(&held), now), Standing::Locked(&held));
        assert_eq!(standing(&link(), Some(&held), SINCE.plus(GOOD_FOR)), Standing::Expired);
        assert_eq!(standing(&link(), None, now), Standing::Ended);
        assert_eq!(standing(&link(), Some(&lock(now, None)), now), Standing::Ended, "another lock");
        assert_eq!(
            standing(&link(), Some(&lock(SINCE, Some(now))), now),
            Standing::Ended,
            "its time is over"
        );
    }

    #[test]
    fn nothing_of_a_sender_becomes_html() {
        assert_eq!(whose(&link()), "&lt;script&gt;&amp;&#39;&quot; of 192.0.2.0/28");
    }
}

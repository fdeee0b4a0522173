//! The way out: everything that is still to be delivered, as files. Each queue entry becomes `ID.SITE.eml`, the message
//! byte for byte as it came, and `ID.SITE.json`, its envelope with the recipients that are left.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use eventlog::View;
use schemas::envelope::{BodyType, Envelope, Recipient, Ret};
use schemas::queue::QueueEntry;
use schemas::{MessageId, ReversePath, SmtpReply};
use serde::Serialize;

use crate::api::ExportAnswer;
use crate::queue_view::QueueView;
use crate::writer::blocking;
use crate::{Context, Error, message};

const MAX_FAILURES_TOLD: usize = 100;

/// What stands beside an exported message.
#[derive(Debug, Serialize)]
struct ExportedEnvelope {
    message_id: MessageId,
    reverse_path: ReversePath,
    /// Those that are still to be delivered at this site.
    recipients: Vec<ExportedRecipient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ret: Option<Ret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envid: Option<String>,
    body_type: BodyType,
    smtputf8: bool,
    user: String,
    domain: String,
    node: String,
    site: String,
    accepted_at: String,
    expires_at: String,
    tries: u32,
    held: bool,
}

#[derive(Debug, Serialize)]
struct ExportedRecipient {
    #[serde(flatten)]
    recipient: Recipient,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reply: Option<SmtpReply>,
}

/// Writes every entry of every lane.
///
/// # Errors
/// `Invalid`, `File`: the directory cannot be used. `Unavailable`: the queue is still being read.
pub async fn export(context: &Context, dir: PathBuf) -> Result<ExportAnswer, Error> {
    prepare(&dir)?;
    // Taken at one moment; what is delivered while it is written out is in it all the same.
    let entries: Vec<QueueEntry> = context.queue.read().entries().cloned().collect();
    let mut answer = ExportAnswer { dir: dir.clone(), written: 0, failed: Vec::new() };
    let mut names = HashSet::new();
    for entry in entries {
        let name = unused(&mut names, &file_name(&entry));
        let stored = match read(context, &context.queue, &entry).await {
            Ok(Some(stored)) => stored,
            Ok(None) => continue,
            Err(error) if answer.failed.len() < MAX_FAILURES_TOLD => {
                answer.failed.push(format!("{name}: {error}"));
                continue;
            }
            Err(_) => continue,
        };
        let envelope = envelope_of(&entry, &stored.envelope);
        let (dir, content) = (dir.clone(), stored.content);
        blocking(move || write(&dir, &name, &envelope, &content)).await?;
        answer.written += 1;
    }
    sync(&dir)?;
    Ok(answer)
}

/// The message of an entry; none when it was delivered in the meantime. An entry whose message was moved within the log
/// (its retention being half over) is looked up again.
async fn read(
    context: &Context,
    queue: &View<QueueView>,
    entry: &QueueEntry,
) -> Result<Option<message::StoredMessage>, Error> {
    let error = match message::read(&context.log, entry.position, true).await {
        Ok(stored) => return Ok(Some(stored)),
        Err(error) => error,
    };
    let now = queue.read().same(entry).map(|entry| entry.position);
    match now {
        None => Ok(None),
        Some(position) if position != entry.position => {
            message::read(&context.log, position, true).await.map(Some)
        }
        Some(_) => Err(error),
    }
}

fn envelope_of(entry: &QueueEntry, envelope: &Envelope) -> ExportedEnvelope {
    let recipients = entry.recipients.iter().map(|queued| {
        let of_envelope =
            envelope.recipients.get(queued.index as usize).filter(|r| r.forward_path == queued.forward_path);
        let recipient = of_envelope.cloned().unwrap_or_else(|| Recipient {
            forward_path: queued.forward_path.clone(),
            notify: None,
            orcpt: None,
        });
        ExportedRecipient { recipient, last_reply: queued.last_reply.clone() }
    });
    ExportedEnvelope {
        message_id: entry.message.id,
        reverse_path: envelope.reverse_path.clone(),
        recipients: recipients.collect(),
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        body_type: envelope.body_type,
        smtputf8: envelope.smtputf8,
        user: envelope.user.to_string(),
        domain: envelope.domain.to_string(),
        node: entry.node.clone(),
        site: entry.site.clone(),
        accepted_at: envelope.accepted_at.rfc3339(),
        expires_at: entry.expires_at.rfc3339(),
        tries: entry.tries,
        held: entry.held,
    }
}

fn file_name(entry: &QueueEntry) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let site: String = entry.site.chars().take(120).map(safe).collect();
    format!("{}.{site}", entry.message.id)
}

/// Sites that differ only in characters that no file name should have get a number.
fn unused(names: &mut HashSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{name}.{number}");
        number += 1;
    }
    candidate
}

/// Makes the directory, for its owner alone, or takes one that is empty.
///
/// # Errors
/// `Invalid`: not absolute, or not empty. `File`: it cannot be made.
pub fn prepare(dir: &Path) -> Result<(), Error> {
    if !dir.is_absolute() {
        return Err(Error::invalid(
            format!("{} is not an absolute path", dir.display()),
            "give the whole path, as /var/tmp/mailweir-export: it is made on the node, not where you are",
        ));
    }
    let failed = |source| Error::File { path: dir.to_owned(), source };
    if dir.exists() {
        if dir.read_dir().map_err(failed)?.next().is_some() {
            return Err(Error::invalid(
                format!("{} is not empty", dir.display()),
                "give a directory that is empty or not there",
            ));
        }
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
}

fn write(dir: &Path, name: &str, envelope: &ExportedEnvelope, content: &Bytes) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(envelope)
        .map_err(|error| Error::Internal(format!("an envelope cannot be written: {error}")))?;
    write_file(&dir.join(format!("{name}.eml")), content)?;
    write_file(&dir.join(format!("{name}.json")), &json)
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)
}

fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| Error::File { path: dir.to_owned(), source })
}
